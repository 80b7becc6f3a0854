"""Straight to the socket under daphne (Autobahn on Twisted's asyncio reactor).

Internals used, and nothing else of them: daphne's ``send`` is ``functools.partial(server.handle_reply, protocol)``;
Autobahn's ``protocol.state``, ``_perMessageCompress``, ``sendClose``, ``closeHandshakeTimeout``; Twisted's
``transport.socket``, ``dataBuffer``, ``offset``, ``_tempDataBuffer``, ``_tempDataLen``, ``write``, ``abortConnection``.
``usable`` checks that they are there and of the expected kinds, for each connection.

Order with frames that go the ordinary way (close, ping, pong): those end in ``transport.write``, which appends to the
transport's buffer; this writer goes around that buffer only while it is empty, else through it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..frame import Batch
from .base import Bounds, Send, Writer


def protocol_of(send: Send) -> Any | None:
    """The Autobahn protocol behind daphne's ``send``, when its transport can be written to directly; else None.

    TLS endpoints (their transport is a wrapper) and negotiated compression need the ordinary way.
    """
    if not isinstance(send, functools.partial) or len(send.args) != 1:
        return None
    try:
        from autobahn.twisted.websocket import WebSocketServerProtocol
        from twisted.internet.tcp import Connection
    except ImportError:
        return None
    protocol = send.args[0]
    if not isinstance(protocol, WebSocketServerProtocol):
        return None
    transport = protocol.transport
    expected = (
        "socket",
        "dataBuffer",
        "offset",
        "_tempDataBuffer",
        "_tempDataLen",
        "write",
        "abortConnection",
    )
    if (
        not isinstance(transport, Connection)
        or getattr(transport, "TLS", False)
        or not all(hasattr(transport, name) for name in expected)
        or not isinstance(transport.dataBuffer, bytes)
        or not isinstance(transport._tempDataBuffer, list)
        or getattr(protocol, "_perMessageCompress", None) is not None
        or getattr(protocol, "logFrames", False)
    ):
        return None
    return protocol


class DaphneWriter(Writer):
    """Writes built frames onto the socket while the transport's buffer is empty, else into that buffer."""

    __slots__ = ("_open", "_protocol", "_send", "_transport", "_waiting")
    name = "daphne"

    def __init__(self, protocol: Any, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        super().__init__(bounds, on_overflow)
        self._protocol = protocol
        self._transport = protocol.transport
        self._send = protocol.transport.socket.send
        self._open = protocol.STATE_OPEN
        self._waiting = 0
        # After our close frame a slow peer gets as long to read what is before it as any other send has.
        protocol.closeHandshakeTimeout = bounds.deadline

    def _write(self, batch: Batch) -> None:
        wire = batch._wire
        if wire is None:
            wire = batch.wire
        if self.closed or self._protocol.state != self._open:
            return
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer:
            self._queue(wire, len(batch.payloads))
            return
        self._waiting = 0
        try:
            sent = self._send(wire)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # The peer is gone; the reactor tells the server, and that the consumer.
        if sent != len(wire):
            self._queue(wire[sent:], len(batch.payloads))

    def _queue(self, wire: bytes, frames: int) -> None:
        self._transport.write(wire)
        self._waiting += frames
        if self._waiting > self.bounds.frames or self.buffered() > self.bounds.bytes:
            self.on_overflow()

    def buffered(self) -> int:
        transport = self._transport
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            if self._protocol.state == self._open:
                self._protocol.sendClose(code=code)

    def abort(self) -> None:
        self.closed = True
        self._transport.abortConnection()

    def ping(self) -> None:
        if not self.closed and self._protocol.state == self._open:
            self._protocol._sendAutoPing()
