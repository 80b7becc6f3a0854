"""What Twisted connects first: it looks at the first bytes of a connection, and makes it a light one or hands it to daphne.

Handing over is complete: daphne's own protocol is made, connected to the transport and fed with the bytes. A handshake that does
not come whole in one piece is handed over, too, so this holds no bytes and needs no bounds of its own. Until the first bytes
come, the connection counts and ends as daphne's do (``bus.servers.http_connections``).

Internals used, and no others, besides those of ``sockets``: daphne's ``HTTPFactory`` with ``server`` and ``timeOut``; Twisted's
transports with ``protocol``, and the ``wrappedProtocol`` of those around a transport; ``tcp.Connection`` with ``TLS``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ....conf.settings import config
from ...adapter import plain_of
from ...http_connections import HttpConnection, HttpConnections
from ...selftest import passed
from .. import reader, writer
from .selftest import fault
from .sockets import Sockets, usual

#: The packages whose versions the log names when the self-test fails.
PACKAGES = ("daphne", "autobahn", "twisted")

#: Makes daphne's own protocol for an address; None where the address has too many connections.
Build = Callable[[], Any]


class First:
    """The protocol of a new connection, until its first bytes come."""

    __slots__ = ("_build", "_connections", "_entry", "_sockets", "_transport")

    def __init__(self, sockets: Sockets, address: str, connections: HttpConnections, build: Build) -> None:
        self._sockets = sockets
        self._connections = connections
        self._build = build
        self._transport: Any = None
        self._entry = HttpConnection(address, buffered=_none, abort=self._abort, owed=_request, answering=bool)

    def admitted(self) -> bool:
        """Count the connection. False where its address has too many."""
        return self._connections.add(self._entry)

    def makeConnection(self, transport: Any) -> None:  # noqa: N802 - Twisted's names
        """Begin, unless the transport is of a kind that only daphne knows."""
        from twisted.internet.tcp import Connection

        self._transport = transport
        if not isinstance(transport, Connection) or getattr(transport, "TLS", False):
            self._hand_over(b"")

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Decide by the first bytes."""
        if self._sockets.take(self._transport, data) is None:
            self._hand_over(data)
        else:
            self._connections.remove(self._entry)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        """The client is gone without a byte."""
        self._connections.remove(self._entry)

    def _hand_over(self, data: bytes) -> None:
        entry, transport = self._entry, self._transport
        self._connections.remove(entry)
        protocol = self._build()
        if protocol is None:
            transport.abortConnection()
            return
        # What the client owes, it owes since the beginning.
        protocol._channel.arqonbus_connection.since = entry.since
        if getattr(transport, "wrappedProtocol", None) is self:
            transport.wrappedProtocol = protocol
        else:
            transport.protocol = protocol
        protocol.makeConnection(transport)
        if data:
            protocol.dataReceived(data)

    def _abort(self) -> None:
        if hasattr(self._transport, "abortConnection"):
            self._transport.abortConnection()


def _none() -> int:
    """Nothing waits for the client."""
    return 0


def _request() -> int:
    """The client owes its first request, as ``handshakes`` counts it."""
    return 1


def sockets_of(factory: Any) -> Sockets | None:
    """Return the light connections of a factory's server; None where its connections are daphne's. Decided once for a factory."""
    try:
        sockets: Sockets | None = factory.arqonbus_light
    except AttributeError:
        sockets = factory.arqonbus_light = _sockets_of(factory)
    # At this level daphne writes a line about each step of a connection.
    return None if sockets is None or logging.getLogger("daphne").isEnabledFor(logging.DEBUG) else sockets


def _sockets_of(factory: Any) -> Sockets | None:
    from daphne.server import Server
    from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

    server, settings = factory.server, config()
    plain = plain_of(getattr(server, "application", None))
    made_by_daphne = (
        type(server) is Server
        and type(server.ws_factory) is WebSocketFactory
        and server.ws_factory.protocol is WebSocketProtocol
    )
    # Twisted ends silent connections itself where the bus does not, or does so later.
    ends_silent_ones = factory.timeOut and 0 < settings.handshake_timeout <= factory.timeOut
    if plain is None or not made_by_daphne or not ends_silent_ones or settings.writer == "portable":
        return None
    if not usual(server.ws_factory) or not _tested():
        return None
    sockets = Sockets(server, plain)
    _end_with_the_reactor(sockets)
    return sockets


def _tested() -> bool:
    """Whether all self-tests of what a light connection uses passed."""
    return (
        passed(PACKAGES, "received frames", reader.fault)
        and passed(PACKAGES, "sent frames", writer.fault)
        and passed(PACKAGES, "handshakes", fault)
    )


def _end_with_the_reactor(sockets: Sockets) -> None:
    """End the consumers before the reactor stops, as daphne ends its applications."""
    from twisted.internet import defer, reactor

    def end() -> Any:
        ended = defer.Deferred.fromFuture(asyncio.gather(*sockets.end_all(), return_exceptions=True))
        ended.addErrback(lambda _: None)
        return ended

    running: Any = reactor
    running.addSystemEventTrigger("before", "shutdown", end)
