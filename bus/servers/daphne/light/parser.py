"""Autobahn's parser for the frames of a light connection that are not usual: control frames, fragments, and whatever is wrong.

A parser is daphne's own protocol, put into the state behind the handshake. It is taken when such a frame comes, and goes back
once it is at rest: the frame is complete, and nothing is left to do. So an idle connection has none, and a few serve all.

Internals used, and no others, besides those of ``reader`` and ``writer``: Autobahn's ``WebSocketProtocol._connectionMade``,
``_connectionLost``, ``STATE_CONNECTING``, ``STATE_OPEN``, ``STATE_CLOSING``, ``STATE_CLOSED``, ``state``, ``closedByMe``,
``failedByMe``, ``closeHandshakeTimeoutCall``, ``send_queue``, ``sendPing``, ``sendCloseFrame``, ``onClose``,
``websocket_version``, ``current_frame``, ``inside_message``, ``data`` and ``is_closed``; daphne's ``onMessage``.
"""

from __future__ import annotations

from typing import Any, Protocol

from autobahn.websocket.protocol import WebSocketProtocol as Autobahn
from daphne.ws_protocol import WebSocketProtocol

from ....realtime.frame import MAX_FRAME

#: Parsers at rest that a server keeps.
KEPT = 16


class Owner(Protocol):
    """The connection that has a parser."""

    transport: Any

    def stop_writing(self) -> None:
        """Write no more frames: a close frame is about to be sent."""

    def put_nowait(self, event: dict[str, Any]) -> None:
        """Take a message, as the application's queue does under ASGI."""


class Parser(WebSocketProtocol):
    """Daphne's protocol for one connection at a time."""

    owner: Owner | None = None
    application_queue: Owner | None
    data: bytes
    current_frame: object
    #: The code of the client's close frame, once the connection is lost.
    close_code: int | None = None

    def __init__(self, factory: Any) -> None:
        super().__init__()
        self.factory = factory
        self.client_addr = None

    def begin(self, owner: Owner, state: int) -> None:
        """Serve ``owner``, whose connection is in ``state``."""
        self.owner = owner
        self.transport = owner.transport
        self.application_queue = owner
        if not hasattr(self, "trafficStats"):
            for name in ("maxMessagePayloadSize", "maxFramePayloadSize"):
                setattr(self, name, min(getattr(self.factory, name, 0) or MAX_FRAME, MAX_FRAME))
            # The opening handshake is over, and the connection watches its pings itself.
            self.openHandshakeTimeout = self.autoPingInterval = self.autoPingTimeout = 0
            self.failByDrop = False
            self.websocket_version = 13
            Autobahn._connectionMade(self)
            self.inside_message, self.current_frame = False, None
        self.closeHandshakeTimeout = self.factory.closeHandshakeTimeout
        self.state = state
        self.closedByMe = state == self.STATE_CLOSING

    def at_rest(self) -> bool:
        """Whether it stands between two messages of a connection that is fine, and is good for another one."""
        return bool(
            not self.data
            and self.current_frame is None
            and not self.inside_message
            and not self.failedByMe
            and self.state != self.STATE_CLOSED
            and self.closeHandshakeTimeoutCall is None
            and not self.send_queue
        )

    def rest(self) -> None:
        """Forget the connection."""
        self.owner, self.transport, self.application_queue = None, None, None

    def sendCloseFrame(self, *args: Any, **options: Any) -> None:  # noqa: N802 - Autobahn's name
        """Send a close frame, behind which no other frame is written."""
        if self.owner is not None:
            self.owner.stop_writing()
        super().sendCloseFrame(*args, **options)

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:  # noqa: N802, N803 - Autobahn's names
        """Note how the connection ended. The connection reports it."""
        self.close_code = code

    def lost(self, reason: Any) -> int | None:
        """The transport is gone: end, and return the code of the connection's end."""
        Autobahn._connectionLost(self, reason)
        over: Any = getattr(self, "is_closed", None)
        if getattr(over, "result", None) is self:
            # They hold each other until the garbage collector comes.
            over.result = None
        self.rest()
        return self.close_code


class Parsers:
    """The parsers of a server that are at rest."""

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self._resting: list[Parser] = []

    def take(self, owner: Owner, state: int) -> Parser:
        """Give ``owner`` a parser."""
        parser = self._resting.pop() if self._resting else Parser(self._factory)
        parser.begin(owner, state)
        return parser

    def give_back(self, parser: Parser) -> None:
        """Keep a parser that is at rest for the next connection."""
        parser.rest()
        if len(self._resting) < KEPT:
            self._resting.append(parser)
