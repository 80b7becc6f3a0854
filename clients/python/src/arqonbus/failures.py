"""The errors of the client that are no answer of the server. ``errors`` has all of them."""

from __future__ import annotations

from typing import Any


class ArqonBusError(Exception):
    """Base of all errors of this package."""


class ConnectionFailed(ArqonBusError):
    """The server is not reachable, or does not speak the bus's protocol.

    ``answered``: a server answered, but it is not a bus. ``proxy``: the attempt used a proxy.
    """

    def __init__(self, message: str, *, answered: bool = False, proxy: bool = False) -> None:
        self.answered = answered
        self.proxy = proxy
        super().__init__(message)


class ConnectionLost(ArqonBusError):
    """The connection broke before the answer. The server may or may not have done the request."""


class BusClosed(ArqonBusError):
    """The bus was closed with ``close()`` before or during the call."""


class StreamReset(ArqonBusError):
    """A new owner threw away the text of a streamed message, and starts it anew."""


class AskFailed(ArqonBusError):
    """The responder answered a question with an error, which is the text. ``reply`` is its :class:`arqonbus.Message`."""

    def __init__(self, message: str, reply: Any = None) -> None:
        self.reply = reply
        super().__init__(message)


class IdentityInUse(ArqonBusError):
    """Another client, in this process or another, uses the file that ``identity`` names."""
