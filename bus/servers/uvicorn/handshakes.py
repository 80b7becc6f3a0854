"""Uvicorn's HTTP connections, bounded.

Internals used, and no others: uvicorn's HTTP protocol classes with ``connection_made``, ``connection_lost``,
``on_headers_complete``, ``handle_websocket_upgrade``, ``headers``, ``conn.next_event``, ``transport``, and ``cycle`` with
``more_body`` and ``response_complete``; of its WebSocket protocols ``handshake_complete`` and ``read_paused``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Hashable
from typing import Any

from ..http_connections import HttpConnection, HttpConnections, check_framing

_CLASSES = (
    ("uvicorn.protocols.http.h11_impl", "H11Protocol"),
    ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol"),
)


def install() -> None:
    """Bound uvicorn's HTTP connections in this process, for each of its HTTP protocols that is installed. Done once."""
    connections = HttpConnections()
    for module, name in _CLASSES:
        with contextlib.suppress(ImportError):
            protocol = getattr(importlib.import_module(module), name)
            if not hasattr(protocol, "arqonbus_connections"):
                _bound(protocol, connections)


def _bound(protocol: Any, connections: HttpConnections) -> None:
    made, lost, upgrade = protocol.connection_made, protocol.connection_lost, protocol.handle_websocket_upgrade
    complete = getattr(protocol, "on_headers_complete", None)

    def connection_made(self: Any, transport: Any) -> None:
        made(self, transport)
        if complete is None:
            self.conn.next_event = _checked(self.conn.next_event)
        peer = transport.get_extra_info("peername")
        self.arqonbus_connection = connection = HttpConnection(
            str(peer[0]) if isinstance(peer, tuple) and peer else "",
            buffered=transport.get_write_buffer_size,
            abort=transport.abort,
            owed=lambda: _owed(self, connections),
            answering=lambda: self.cycle is not None and not self.cycle.response_complete,
        )
        if not connections.add(connection):
            transport.abort()

    def connection_lost(self: Any, problem: Exception | None) -> None:
        connections.remove(self.arqonbus_connection)
        lost(self, problem)

    def on_headers_complete(self: Any) -> None:
        # httptools turns an exception into the answer 400.
        check_framing(self.headers)
        complete(self)  # type: ignore[misc]

    def handle_websocket_upgrade(self: Any, *args: Any) -> None:
        upgrade(self, *args)
        connections.upgraded(self.arqonbus_connection)
        transport = self.transport
        now = transport.get_protocol()
        if getattr(now, "read_paused", None) is False and not now.handshake_complete:
            # Nothing is read until the application has the handshake, and answers it.
            now.read_paused = True
            transport.pause_reading()

    protocol.connection_made, protocol.connection_lost = connection_made, connection_lost
    protocol.handle_websocket_upgrade = handle_websocket_upgrade
    if complete is not None:
        protocol.on_headers_complete = on_headers_complete
    protocol.arqonbus_connections = connections


def _owed(protocol: Any, connections: HttpConnections) -> Hashable:
    """What the client owes: its first request, the rest of one, the next one, or the end of a WebSocket's handshake."""
    now = protocol.transport.get_protocol()
    if now is not protocol:
        if getattr(now, "handshake_complete", True):
            connections.remove(protocol.arqonbus_connection)
            return None
        # The WebSocket protocol never answers a handshake that it could not read, such as one with a line too long.
        return "handshake"
    cycle = protocol.cycle
    if cycle is None:
        return "first"
    if cycle.response_complete:
        return id(cycle), "next"
    return (id(cycle), "body") if cycle.more_body else None


def _checked(next_event: Callable[[], Any]) -> Callable[[], Any]:
    from h11 import RemoteProtocolError, Request

    def checked() -> Any:
        event = next_event()
        if isinstance(event, Request):
            try:
                check_framing(event.headers)
            except ValueError as problem:
                raise RemoteProtocolError(str(problem)) from None
        return event

    return checked
