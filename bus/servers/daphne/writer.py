"""Writing straight to the socket under daphne (Autobahn on Twisted's asyncio reactor).

Internals used, and no others: daphne's ``send`` is ``functools.partial(server.handle_reply, protocol)``; Autobahn's
``protocol.state``, ``_perMessageCompress``, ``sendClose``, ``sendCloseFrame``, ``closeHandshakeTimeout``, ``failByDrop`` and
``_sendAutoPing``; Twisted's ``request.channel``, ``transport.socket``, ``dataBuffer``, ``offset``, ``_tempDataBuffer``,
``_tempDataLen``, ``write``, ``startWriting``, ``connected`` and ``abortConnection``. ``fault`` compares both ways once in a
process, over a real pair of sockets; ``protocol_of`` checks each connection.

Order with frames that go the ordinary way (close, ping, pong): those end in ``transport.write``, which appends to the
transport's buffer and calls ``transport.startWriting``. This writer goes around that buffer only while it is empty, and else
through it.

A fan-out to thousands of connections waits for memory more than for anything else: what it touches of each connection is not in
the processor's cache. So one flag of the writer says whether it may write to the socket. Attributes of the two objects take the
place of ``startWriting`` (something waits in the buffer) and ``sendCloseFrame`` (the connection is about to close), and clear the
flag. The next write checks the buffer and the state themselves, and sets the flag again when it may.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from ...realtime.frame import Batch, text_frame
from ...realtime.writer import Bounds, Send, Writer
from ..adapter import Allowed
from ..selftest import HANDSHAKE

_EXPECTED = (
    "socket",
    "dataBuffer",
    "offset",
    "_tempDataBuffer",
    "_tempDataLen",
    "write",
    "startWriting",
    "abortConnection",
)


def create(send: Send, allowed: Allowed, bounds: Bounds, on_overflow: Callable[[], None]) -> Writer | None:
    """A direct writer (:meth:`bus.servers.adapter.WriterModule.create`)."""
    protocol = protocol_of(send)
    return DaphneWriter(protocol, bounds, on_overflow) if protocol is not None and allowed() else None


def why_not(send: Send) -> str:
    """Why ``create`` gives no writer for daphne's ``send``; empty when only the self-test failed."""
    if protocol_of(send) is not None:
        return ""
    return "the fast path does not support its transport, for example with TLS; end TLS at a proxy in front"


def backlog_of(send: Send) -> Callable[[], int] | None:
    """Tells the bytes of an HTTP response in Twisted's buffer: daphne's ``send`` does not wait for the client."""
    if not isinstance(send, functools.partial) or len(send.args) != 1:
        return None
    transport: Any = getattr(getattr(send.args[0], "channel", None), "transport", None)
    if not all(hasattr(transport, name) for name in ("dataBuffer", "offset", "_tempDataLen")):
        return None
    return functools.partial(buffered_in, transport)


def buffered_in(transport: Any) -> int:
    """Bytes in the buffers of one of Twisted's transports."""
    waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return waiting


def protocol_of(send: Send) -> Any | None:
    """The Autobahn protocol behind daphne's ``send``, if its transport can be written to directly; else None.

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
    if (
        not isinstance(transport, Connection)
        or getattr(transport, "TLS", False)
        or not all(hasattr(transport, name) for name in _EXPECTED)
        or not isinstance(transport.dataBuffer, bytes)
        or not isinstance(transport._tempDataBuffer, list)
        or getattr(protocol, "_perMessageCompress", None) is not None
        or getattr(protocol, "logFrames", False)
    ):
        return None
    return protocol


class DaphneWriter(Writer):
    """Writes built frames onto the socket while the transport's buffer is empty, else into that buffer."""

    __slots__ = ("_open", "_protocol", "_queued", "_transport", "_waiting")
    name = "daphne"

    def __init__(self, protocol: Any, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        super().__init__(bounds, on_overflow)
        self._protocol = protocol
        self._transport = protocol.transport
        self._send = protocol.transport.socket.send
        self._open = protocol.STATE_OPEN
        # Frames in the transport's buffer (at most), and bytes that ever went into it.
        self._waiting = 0
        self._queued = 0
        # `_direct` says that the connection is open, and that nothing waits in the transport's buffer.
        protocol.transport.startWriting = self._start_writing
        self._watch_closing()

    def _watch_closing(self) -> None:
        """Clear the flag when the protocol sends a close frame."""
        # A frame above the server's own limit ends the connection with 1009 instead of cutting it without a reason.
        self._protocol.failByDrop = False
        self._protocol.sendCloseFrame = self._send_close_frame

    def write(self, batch: Batch) -> None:
        if self.pending is not None:
            batch = self._after_pending(batch)
        # The body of `_write`, without the call.
        if self._direct:
            self._around(batch._wire or batch.wire, batch)
        else:
            self._check_and_write(batch)

    def _write(self, batch: Batch) -> None:
        if self._direct:
            self._around(batch._wire or batch.wire, batch)
        else:
            self._check_and_write(batch)

    def _around(self, wire: bytes, batch: Batch) -> None:
        """Write onto the socket, and the bytes that it does not take into the transport's buffer."""
        try:
            sent = self._send(wire)  # type: ignore[misc] # set with the writer
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # The client is gone; the reactor reports that to the server, and the server to the consumer.
        if sent != len(wire):
            self._left(batch, sent)

    def _left(self, batch: Batch, sent: int) -> None:
        self._queue(batch.wire[sent:], len(batch.payloads))

    def _check_and_write(self, batch: Batch) -> None:
        """Write as the state of the connection and its buffer allow."""
        if self.closed or self._protocol.state != self._open:
            return
        transport = self._transport
        if transport.dataBuffer or transport._tempDataBuffer:
            self._queue(batch.wire, len(batch.payloads))
            return
        self._waiting = 0
        self._direct = True
        self._around(batch.wire, batch)

    def _start_writing(self) -> None:
        """Replaces ``transport.startWriting``, which each write into the buffer calls."""
        self._direct = False
        transport = self._transport
        type(transport).startWriting(transport)

    def _send_close_frame(self, *args: Any, **kwargs: Any) -> None:
        """Replaces ``protocol.sendCloseFrame``, which changes the state."""
        self._cut_soon()
        self._direct = False
        protocol = self._protocol
        type(protocol).sendCloseFrame(protocol, *args, **kwargs)

    def _cut_soon(self) -> None:
        """A close frame is about to be sent: cut a client that has not taken all that waits in time.

        Once Autobahn ends a connection itself it waits for that without limit.
        """
        if self._protocol.state != self._open or self._timer is _NO_TIMER:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self.linger, self._cut)

    def _cut(self) -> None:
        self._timer = None
        if self._transport.connected:
            self._transport.abortConnection()

    def _forget_timer(self) -> None:
        if self._timer is not None and self._timer is not _NO_TIMER:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        self._direct = False
        self.closed = True
        self._forget_timer()
        self._transport.__dict__.pop("startWriting", None)
        self._protocol.__dict__.pop("sendCloseFrame", None)

    def _queue(self, wire: bytes, frames: int) -> None:
        if self.overflowed:
            return
        self._transport.write(wire)
        self._queued += len(wire)
        self._waiting += frames
        if self._waiting > self.bounds.frames or self.buffered() > self.bounds.bytes:
            self._overflow()
        elif self._timer is None:
            self._watch_deadline()

    def buffered(self) -> int:
        return buffered_in(self._transport)

    def disconnected(self) -> bool:
        return bool(self.closed or self._protocol.state != self._open)

    def taken(self) -> int:
        return self._queued - self.buffered()

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self._direct = False
            if self._protocol.state == self._open:
                self._begin_close(code)

    def _begin_close(self, code: int) -> None:
        # Autobahn drops a client that does not answer our close frame in this time.
        self._protocol.closeHandshakeTimeout = self.linger
        self._protocol.sendClose(code=code)

    def abort(self) -> None:
        self.closed = True
        self._direct = False
        self._transport.abortConnection()

    def ping(self) -> None:
        if not self.closed and self._protocol.state == self._open:
            self._protocol._sendAutoPing()


# --- the self-test ------------------------------------------------------------------------------------------------------


class _QuietReactor:
    """The methods that a transport calls on its reactor, for a transport that the self-test drives."""

    def addReader(self, _: Any) -> None: ...  # noqa: N802 - Twisted's names
    def addWriter(self, _: Any) -> None: ...  # noqa: N802
    def removeReader(self, _: Any) -> None: ...  # noqa: N802
    def removeWriter(self, _: Any) -> None: ...  # noqa: N802
    def callLater(self, *_: Any) -> None: ...  # noqa: N802


class _QuietServer:
    """The attributes that daphne's protocol uses of its server, and of the application's queue."""

    root_path = ""
    proxy_forwarded_address_header = None
    action_logger = None

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.scope: Any = None

    def protocol_connected(self, _: Any) -> None: ...
    def protocol_disconnected(self, _: Any) -> None: ...
    def log_action(self, *_: Any) -> None: ...
    def create_application(self, _: Any, scope: Any) -> _QuietServer:
        self.scope = {**scope, "asgi": {"version": "3.0"}}
        return self

    def put_nowait(self, event: Any) -> None:
        """As the application's queue."""
        self.queue.append(event)

    def qsize(self) -> int:
        """As the application's queue."""
        return len(self.queue)


def opened_protocol(ours: socket.socket, handshake: bytes = HANDSHAKE, subprotocol: str | None = None) -> Any:
    """Daphne's protocol after a real handshake over ``ours``, without a reactor (for self-tests).

    The ``scope`` of the handshake is an attribute of its ``server``.
    Events for the application are in ``application_queue.queue``; the answer to the handshake is in the transport's buffer.
    """
    from daphne.ws_protocol import WebSocketFactory
    from twisted.internet.address import IPv4Address
    from twisted.internet.tcp import Connection

    factory: Any = WebSocketFactory(_QuietServer(), "ws://localhost")
    factory.setProtocolOptions(openHandshakeTimeout=0, closeHandshakeTimeout=0, autoPingTimeout=0, allowNullOrigin=True)
    protocol = factory.buildProtocol(None)
    transport: Any = Connection(ours, protocol, _QuietReactor())  # type: ignore[arg-type]
    transport.connected = 1
    transport.getPeer = transport.getHost = lambda: IPv4Address("TCP", "127.0.0.1", 0)
    protocol._raw_query_string = handshake.split(b" ", 2)[1].partition(b"?")[2]
    protocol.makeConnection(transport)
    protocol.dataReceived(handshake)
    protocol.serverAccept(subprotocol)
    protocol.application_queue.queue.clear()
    return protocol


def fault() -> str | None:
    """The self-test: the same frames give the same bytes both ways over real sockets. Returns what is wrong, or None."""
    payloads = [b'{"a":"\xc3\xa4"}', b"x" * 125, b"y" * 126, b"z" * 65_535, b"w" * 70_000]
    frames = b"".join(text_frame(payload) + b"\x89\x01%d" % number for number, payload in enumerate(payloads))
    ordinary, direct = bytearray(), bytearray()
    for received, way in ((ordinary, "ordinary"), (direct, "direct")):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            protocol = opened_protocol(ours)
            transport = protocol.transport
            transport.doWrite()
            theirs.recv(65_536)  # the answer to the handshake
            writer = None
            if way == "ordinary":
                for number, payload in enumerate(payloads):
                    protocol.serverSend(payload.decode())
                    protocol.sendPing(b"%d" % number)
            else:
                # The sockets' buffers take a part of it, so the test covers both ways of the writer.
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
                writer = DaphneWriter(protocol, Bounds(), lambda: None)
                writer._timer = _NO_TIMER
                for number, payload in enumerate(payloads):
                    writer.write(Batch([payload]))
                    protocol.sendPing(b"%d" % number)
                    if not number:
                        transport.doWrite()  # Empties the buffer once more.
                if writer.buffered() <= 0:
                    return "the transport's buffer is not where expected"
            protocol.sendClose(code=1000)
            if writer is not None:
                writer.write(Batch([b"behind the close frame"]))
                writer.end()
            for _ in range(10_000):
                waits = bool(transport.dataBuffer or transport._tempDataBuffer)
                if waits:
                    transport.doWrite()
                try:
                    received += theirs.recv(65_536)
                except BlockingIOError:
                    if not waits:
                        break
    if bytes(ordinary) != frames + b"\x88\x02\x03\xe8":
        return "the normal path does not give the bytes of a text frame"
    return None if ordinary == direct else "the fast path gives other bytes than the normal path"


_NO_TIMER: Any = object()
