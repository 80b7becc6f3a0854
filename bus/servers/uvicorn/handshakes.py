"""uvicorn's lines of HTTP, bounded.

Internals used, and nothing else of them: uvicorn's HTTP protocol classes with ``connection_made``, ``connection_lost``,
``on_headers_complete``, ``handle_websocket_upgrade``, ``headers``, ``conn.next_event``, ``transport``, and ``cycle`` with
``more_body`` and ``response_complete``; ``handshake_complete`` and ``read_paused`` of its WebSocket's.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Hashable
from typing import Any

from ..handshakes import check_framing
from ..lines import Line, Lines

_CLASSES = (
    ("uvicorn.protocols.http.h11_impl", "H11Protocol"),
    ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol"),
)


def install() -> None:
    """Teach uvicorn's HTTP protocols their bounds, for this process: those that are installed, once."""
    lines = Lines()
    for module, name in _CLASSES:
        with contextlib.suppress(ImportError):
            protocol = getattr(importlib.import_module(module), name)
            if not hasattr(protocol, "arqonbus_lines"):
                _bound(protocol, lines)


def _bound(protocol: Any, lines: Lines) -> None:
    made, lost, upgrade = protocol.connection_made, protocol.connection_lost, protocol.handle_websocket_upgrade
    complete = getattr(protocol, "on_headers_complete", None)

    def connection_made(self: Any, transport: Any) -> None:
        made(self, transport)
        if complete is None:
            self.conn.next_event = _checked(self.conn.next_event)
        peer = transport.get_extra_info("peername")
        self.arqonbus_line = line = Line(
            str(peer[0]) if isinstance(peer, tuple) and peer else "",
            buffered=transport.get_write_buffer_size,
            abort=transport.abort,
            owed=lambda: _owed(self, lines),
            answering=lambda: self.cycle is not None and not self.cycle.response_complete,
        )
        if not lines.add(line):
            transport.abort()

    def connection_lost(self: Any, problem: Exception | None) -> None:
        lines.remove(self.arqonbus_line)
        lost(self, problem)

    def on_headers_complete(self: Any) -> None:
        # Of httptools; what is raised here makes it a bad request.
        check_framing(self.headers)
        complete(self)  # type: ignore[misc]

    def handle_websocket_upgrade(self: Any, *args: Any) -> None:
        upgrade(self, *args)
        lines.upgraded(self.arqonbus_line)
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
    protocol.arqonbus_lines = lines


def _owed(protocol: Any, lines: Lines) -> Hashable:
    """What the peer owes: its first request, the rest of one, the next one; or, of a WebSocket's handshake, its end."""
    now = protocol.transport.get_protocol()
    if now is not protocol:
        if getattr(now, "handshake_complete", True):
            lines.remove(protocol.arqonbus_line)
            return None
        # A handshake that the WebSocket's side could not read, such as one of a too long line, is never answered by it.
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
