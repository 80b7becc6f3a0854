"""Writing straight to the transport under uvicorn (its ``websockets-sansio`` implementation, which ``auto`` gives).

Internals used, and no others: uvicorn's ``send`` is a bound method of its protocol object; that object's ``transport`` (an
asyncio or uvloop transport, also under TLS) and ``conn`` (a ``websockets`` ``ServerProtocol``); its ``state`` and ``extensions``.
``fault`` compares bytes once in a process; ``protocol_of`` checks each connection. The older implementations (``websockets``,
``wsproto``) get the portable writer.

Order with frames that go the ordinary way (pings, pongs, the close frame): each of those calls ``transport.write`` in the turn
in which it is made, and so does this writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...realtime.frame import Batch, text_frame
from ...realtime.writer import Bounds, Send, Writer
from ..adapter import Allowed

_EXPECTED = ("write", "get_write_buffer_size", "is_closing", "abort", "set_protocol", "pause_reading", "resume_reading")


def create(send: Send, allowed: Allowed, bounds: Bounds, on_overflow: Callable[[], None]) -> Writer | None:
    """A direct writer (:meth:`bus.servers.adapter.WriterModule.create`)."""
    protocol = protocol_of(send)
    return UvicornWriter(protocol, send, bounds, on_overflow) if protocol is not None and allowed() else None


def why_not(send: Send) -> str:
    """Why ``create`` gives no writer for uvicorn's ``send``; empty when only the self-test failed."""
    if protocol_of(send) is not None:
        return ""
    protocol = getattr(send, "__self__", None)
    name = type(protocol).__module__
    if name.startswith("uvicorn.protocols.websockets.") and not name.endswith("_sansio_impl"):
        return "uvicorn does not use websockets-sansio; remove its option --ws"
    if getattr(getattr(protocol, "conn", None), "extensions", None):
        return "compression was negotiated; start uvicorn with --ws-per-message-deflate false"
    return "the fast path does not support its transport, for example with TLS; end TLS at a proxy in front"


def backlog_of(send: Send) -> Callable[[], int] | None:
    """None: uvicorn's ``send`` waits for the client."""
    return None


def protocol_of(send: Send) -> Any | None:
    """Uvicorn's protocol object behind ``send``, if its transport can be written to directly; else None."""
    protocol = getattr(send, "__self__", None)
    if type(protocol).__module__ != "uvicorn.protocols.websockets.websockets_sansio_impl":
        return None
    conn = getattr(protocol, "conn", None)
    transport = getattr(protocol, "transport", None)
    # The class is not checked: uvloop's transports have none of asyncio's classes.
    if (
        not all(hasattr(transport, name) for name in _EXPECTED)
        or getattr(conn, "state", None) is None
        or getattr(conn, "extensions", None) != []
    ):
        return None
    return protocol


class UvicornWriter(Writer):
    """Hands built frames to the transport, which sends at once what the socket takes."""

    __slots__ = ("_asgi_send", "_closing", "_conn", "_open", "_queued", "_transport", "_waiting")
    name = "uvicorn"

    def __init__(self, protocol: Any, send: Send, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        from websockets.protocol import State

        super().__init__(bounds, on_overflow)
        self._asgi_send = send
        self._conn = protocol.conn
        self._transport: asyncio.Transport = protocol.transport
        self._open = State.OPEN
        self._waiting = 0
        self._queued = 0
        self._closing: asyncio.Task[None] | None = None

    def _write(self, batch: Batch) -> None:
        if self.closed or self.overflowed or self._conn.state is not self._open or self._transport.is_closing():
            return
        transport = self._transport
        wire = batch.wire
        before = transport.get_write_buffer_size()
        transport.write(wire)
        after = transport.get_write_buffer_size()
        if not after:
            self._waiting = 0
            return
        self._queued += after - before
        self._waiting = self._waiting + len(batch.payloads) if before else len(batch.payloads)
        if self._waiting > self.bounds.frames or after > self.bounds.bytes:
            self._overflow()
        elif self._timer is None:
            self._watch_deadline()

    def buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    def disconnected(self) -> bool:
        return self.closed or self._conn.state is not self._open or self._transport.is_closing()

    def taken(self) -> int:
        return self._queued - self._transport.get_write_buffer_size()

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self._closing = asyncio.ensure_future(self._close(code))

    async def _close(self, code: int) -> None:
        """Close the ordinary way, which waits for most of the transport's buffer; cut the connection at the deadline."""
        end = asyncio.get_running_loop().time() + self.linger
        try:
            async with asyncio.timeout_at(end):
                await self._asgi_send({"type": "websocket.close", "code": code})
        except Exception as problem:  # noqa: BLE001 - uvicorn has its own class for a client that is gone
            if not isinstance(problem, TimeoutError):
                return
        asyncio.get_running_loop().call_at(end, self._transport.abort)

    def abort(self) -> None:
        self.closed = True
        self._transport.abort()

    def end(self) -> None:
        """The consumer has ended, maybe before the connection: uvicorn waits without limit until the client took the rest."""
        self.closed = True
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self.linger, self._transport.abort)


def fault() -> str | None:
    """The self-test: ``websockets`` frames a text as the bus does, and at once. Returns what is wrong, or None."""
    from websockets.protocol import State
    from websockets.server import ServerProtocol

    conn = ServerProtocol()
    conn.state = State.OPEN
    for payload in (b'{"a":"\xc3\xa4"}', b"x" * 125, b"y" * 126, b"z" * 65_535, b"w" * 70_000):
        conn.send_text(payload)
        if b"".join(conn.data_to_send()) != text_frame(payload):
            return "the normal path does not give the bytes of a text frame"
    return None
