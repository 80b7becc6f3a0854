"""Reading text frames under daphne, before Autobahn's parser; and the bound of daphne's queue for the application.

Daphne puts every frame into a queue without a size, so a client that floods while its frames wait would fill the process's
memory. :class:`BoundedQueue` stops reading the socket at a high-water mark, until the connection has worked off what waits; TCP
then slows the client down.

Internals used, and no others, besides those of ``writer``: Twisted's transport calls ``protocol.dataReceived``, which an
attribute of the object can replace. Autobahn's ``data``, ``current_frame`` with ``opcode``, ``fin`` and ``length``,
``current_frame_masker.pointer`` and ``inside_message`` say where its parser is; ``maxMessagePayloadSize`` and
``maxFramePayloadSize``; ``autoPingTimeoutCall``, ``_cancelAutoPingTimeoutCall`` and ``autoPingTimeout``; ``is_closed``.
Daphne's ``last_ping`` and ``application_queue`` (an ``asyncio.Queue``, with its ``_queue``); ``server.ping_interval``,
``server.ping_timeout`` and ``server.ws_factory``. ``fault`` compares both ways once in a process. Of Twisted
``transport.pauseProducing``, ``resumeProducing``, ``connected``, ``disconnecting``; of its asyncio reactor ``_readers``,
``_readOrWrite`` and ``_asyncioEventloop``, where they exist.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...realtime.frame import MAX_FRAME, masked_frame
from ...realtime.frame_limits import FragmentBudget
from ...realtime.reader import LARGEST, LINGER, Lane, OnMessage, Place, Reader
from ...realtime.writer import Send, Writer
from ..adapter import Allowed, Pings
from ..selftest import OPEN, difference, sample
from .writer import opened_protocol, protocol_of

#: Frames and bytes in one connection's queue at which its socket is not read any more.
HIGH_FRAMES, HIGH_BYTES = 128, 1024 * 1024
#: The same in bytes while the client has not registered: one frame may be of any size, a second one waits for it.
UNREGISTERED_BYTES = 16 * 1024

#: The interval and the timeout of pings that daphne's command line has without options.
_DEFAULT_PINGS = (20, 30)


def attach(
    send: Send, allowed: Allowed, *, budget: FragmentBudget | None = None, pings: Pings | None = None
) -> Reader | None:
    """Put a reader in front of Autobahn's parser (:meth:`bus.servers.adapter.ReaderModule.attach`)."""
    protocol = socket_of(send)
    if protocol is None:
        return None
    plain = protocol_of(send) is not None  # No TLS, no compression.
    queue = _bound(protocol) if plain else None
    reader = None
    if place_of(protocol) is not None:
        reader = DaphneReader(protocol, direct=plain and allowed(), budget=budget, queue=queue)
    server = getattr(protocol, "server", None)
    if plain and pings is not None and server is not None and set_pings(server, pings):
        protocol.autoPingTimeout = pings.timeout
    return reader


class DaphneReader(Reader):
    """Takes the place of ``protocol.dataReceived``. A reader that is not ``direct`` leaves all reading to Autobahn."""

    __slots__ = ("_bounded", "_direct", "_open", "_protocol", "_queue", "_waiting")

    def __init__(
        self,
        protocol: Any,
        *,
        direct: bool = True,
        budget: FragmentBudget | None = None,
        queue: BoundedQueue | None = None,
    ) -> None:
        for name in ("maxMessagePayloadSize", "maxFramePayloadSize"):
            setattr(protocol, name, min(getattr(protocol, name, 0) or MAX_FRAME, MAX_FRAME))
        super().__init__(
            protocol.dataReceived,
            direct=direct,
            largest=min(LARGEST, protocol.maxMessagePayloadSize, protocol.maxFramePayloadSize),
            place=place_of(protocol),
            budget=budget,
        )
        self._protocol = protocol
        self._queue = protocol.application_queue
        # What waits in it. The self-test has another queue.
        self._waiting: deque[Any] = waiting_in(protocol.application_queue)
        self._bounded = queue
        self._open = protocol.STATE_OPEN
        self._direct = direct
        protocol.dataReceived = self.feed
        if direct:
            watch_plainly(protocol.transport)

    def begin(
        self,
        writer: Writer,
        on_message: OnMessage,
        on_flood: Callable[[str], None] | None = None,
        is_registered: Callable[[], bool] | None = None,
        lane: Lane | None = None,
    ) -> None:
        if self._bounded is not None and is_registered is not None:
            self._bounded.is_registered = is_registered
        super().begin(writer, on_message, on_flood, is_registered, lane)

    def feed(self, data: bytes) -> None:
        """Read bytes from the transport. While Autobahn closes, it gets all of them."""
        protocol = self._protocol
        if self._stopped:
            return
        if protocol.state != self._open:
            if self._partial:
                data, self._partial = self._partial + data, b""
            self._parse(data)
            return
        if self._direct:
            # Any data from the client is a sign of life.
            protocol.last_ping = time.time()
            if protocol.autoPingTimeoutCall:
                protocol._cancelAutoPingTimeoutCall()
        self._feed(data)

    def discard_input(self, *, flood: bool) -> None:
        if self._bounded is not None:
            self._bounded.discard(flood=flood)

    def cut(self) -> None:
        if self._bounded is not None:
            self._bounded.discard(flood=True)
            return
        transport = self._protocol.transport
        transport.pauseProducing()
        asyncio.get_running_loop().call_later(LINGER, transport.abortConnection)

    def _detach(self) -> None:
        protocol = self._protocol
        if self._bounded is not None:
            self._bounded.is_registered = bool
        protocol.__dict__.pop("dataReceived", None)
        over: Any = getattr(protocol, "is_closed", None)
        if getattr(over, "result", None) is protocol:
            # Autobahn's result and the protocol hold each other: 20 KiB until the garbage collector comes.
            over.result = None

    def _queued(self) -> int:
        return len(self._waiting)

    def _closing(self) -> bool:
        closing: bool = self._protocol.state != self._open
        return closing

    def _enqueue(self, event: dict[str, Any]) -> None:
        self._queue.put_nowait(event)


def waiting_in(queue: Any) -> deque[Any]:
    """The events that wait in a queue of daphne's, or of the self-test's."""
    waiting: deque[Any] = queue._queue if hasattr(queue, "_queue") else queue.queue
    return waiting


def socket_of(send: Send) -> Any | None:
    """Autobahn's protocol behind daphne's ``send``, whatever its transport is; None for another server."""
    if not isinstance(send, functools.partial) or len(send.args) != 1:
        return None
    protocol = send.args[0]
    known = all(hasattr(protocol, name) for name in ("dataReceived", "application_queue", "last_ping"))
    return protocol if known else None


def place_of(protocol: Any) -> Place | None:
    """Where Autobahn is in its stream of frames; None where its attributes are not as expected."""
    data, frame = getattr(protocol, "data", None), getattr(protocol, "current_frame", protocol)
    inside = getattr(protocol, "inside_message", None)
    if not isinstance(data, bytes) or not isinstance(inside, bool):
        return None
    if frame is None:
        return Place(inside=inside, head=data)
    try:
        left = frame.length - protocol.current_frame_masker.pointer()
        first = frame.opcode | (0x80 if frame.fin else 0)
    except AttributeError:
        return None
    return Place(first, left, inside=not frame.fin if frame.opcode < 8 else inside)


# --- the queue --------------------------------------------------------------------------------------------------------------


class BoundedQueue(asyncio.Queue[Any]):
    """Daphne's queue of one connection, which knows the transport that fills it."""

    # Set by `_bound`, since the queue exists already.
    transport: Any
    waiting_bytes: int
    paused: bool
    is_registered: Callable[[], bool]
    # Whether the bus closes the connection: messages that still come are not kept.
    closing: bool
    _queue: deque[Any]

    @classmethod
    def of(cls, transport: Any, is_registered: Callable[[], bool]) -> BoundedQueue:
        """Make the queue of a connection that has none of daphne's."""
        made = cls()
        made._bound(transport, is_registered)
        return made

    def _bound(self, transport: Any, is_registered: Callable[[], bool]) -> None:
        self.transport = transport
        self.waiting_bytes, self.paused, self.closing = 0, False, False
        self.is_registered = is_registered

    def _put(self, item: Any) -> None:
        if self.closing and item["type"] == "websocket.receive":
            return
        self._queue.append(item)
        self.waiting_bytes += _size(item)
        if not self.paused and self._full():
            self.paused = True
            self.transport.pauseProducing()

    def _full(self) -> bool:
        size = self.waiting_bytes
        if len(self._queue) > HIGH_FRAMES or size > HIGH_BYTES:
            return True
        return size > UNREGISTERED_BYTES and not self.is_registered()

    def _get(self) -> Any:
        item = self._queue.popleft()
        self.waiting_bytes -= _size(item)
        if self.paused and not self.closing and len(self._queue) <= HIGH_FRAMES // 2 and self._half_empty():
            self._resume()
        return item

    def _half_empty(self) -> bool:
        """Whether the waiting bytes are at most half of the mark that was reached, whichever that was."""
        size = self.waiting_bytes
        return size <= UNREGISTERED_BYTES // 2 or (size <= HIGH_BYTES // 2 and self.is_registered())

    def _resume(self) -> None:
        self.paused = False
        if self.transport.connected and not self.transport.disconnecting:
            self.transport.resumeProducing()

    def discard(self, *, flood: bool) -> None:
        """The bus closes the connection: drop the waiting messages, and read on for the closing handshake alone.

        After a ``flood`` nothing more is read; the client has :data:`LINGER` seconds to take the close frame.
        """
        if self.closing:
            return
        self.closing = True
        kept = [item for item in self._queue if item["type"] != "websocket.receive"]
        self._queue.clear()
        self._queue.extend(kept)
        self.waiting_bytes = 0
        if flood:
            self.paused = True
            self.transport.pauseProducing()
            asyncio.get_running_loop().call_later(LINGER, self._cut)
        elif self.paused:
            self._resume()

    def _cut(self) -> None:
        if self.transport.connected:
            self.transport.abortConnection()


def _size(item: Any) -> int:
    return len(item.get("text") or item.get("bytes") or b"")


def _bound(protocol: Any) -> BoundedQueue | None:
    """Bound the queue of a connection; None where it or the transport is not as expected.

    Also lets Autobahn say why it fails a connection (1002, 1007, 1009) instead of cutting it.
    """
    queue, transport = protocol.application_queue, protocol.transport
    needed = ("pauseProducing", "resumeProducing", "connected", "disconnecting")
    if type(queue) is not asyncio.Queue or not all(hasattr(transport, name) for name in needed):
        return None
    protocol.failByDrop = False
    bounded: Any = queue
    bounded.__class__ = BoundedQueue  # The same object, with more methods.
    made: BoundedQueue = bounded
    made._bound(transport, bool)  # Nobody is registered, until the reader begins.
    return made


# --- the transport and its pings ----------------------------------------------------------------------------------------------


def set_pings(server: Any, pings: Pings) -> bool:
    """Let a server of daphne ping by the bus's settings, unless its command line has options of its own for that.

    Returns whether the bus's time for an answer holds.
    """
    if (server.ping_interval, server.ping_timeout) == _DEFAULT_PINGS:
        server.ping_interval, server.ping_timeout = pings.interval or float("inf"), pings.timeout
        # Autobahn keeps the options that are not named, except this one. Without it pages without an origin are refused.
        server.ws_factory.setProtocolOptions(autoPingTimeout=pings.timeout, allowNullOrigin=True)
    return bool(server.ping_timeout == pings.timeout)


def watch_plainly(transport: Any) -> None:
    """Let the loop read the socket by :func:`_read`, without the reactor's calls and a log context around each read.

    The reactor does not notice. When it stops watching the socket this ends, and when it begins again it is as before.
    """
    reactor = getattr(transport, "reactor", None)
    loop, read = getattr(reactor, "_asyncioEventloop", None), getattr(reactor, "_readOrWrite", None)
    if loop is None or read is None or transport not in getattr(reactor, "_readers", ()):
        return
    loop.add_reader(transport.fileno(), _read, transport, transport.socket.recv, transport.bufferSize, read)


def _read(transport: Any, receive: Callable[[int], bytes], most: int, by_reactor: Callable[[Any, bool], None]) -> None:
    """Read a socket once. The reactor itself finds out about every end and failure."""
    try:
        data = receive(most)
    except (BlockingIOError, InterruptedError):
        return
    except OSError:
        data = b""
    if data and transport.fileno() != -1:
        try:
            transport.protocol.dataReceived(data)
        except Exception as problem:  # noqa: BLE001 - the reactor logs it, and ends the connection
            transport.doRead = functools.partial(_raise, problem)
        else:
            return
    by_reactor(transport, True)


def _raise(problem: Exception) -> None:
    raise problem


# --- the self-test --------------------------------------------------------------------------------------------------------------


def fault() -> str | None:
    """The self-test: the same bytes give the same messages and answers both ways. Returns what is wrong, or None."""
    stream = sample() + masked_frame(b"\x03\xe8", b"\x0a\xf1\x80\x07", first=0x88)
    results = []
    for direct, step in ((False, len(stream)), (True, len(stream)), (True, 61)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            protocol = opened_protocol(ours)
            queue = protocol.application_queue.queue
            messages: list[bytes] = []
            if direct:
                if place_of(protocol) != Place():
                    return "the parser's position is not where expected"
                DaphneReader(protocol).begin(OPEN, messages.append)
            for position in range(0, len(stream), step):
                protocol.transport.protocol.dataReceived(stream[position : position + step])
                messages += [_content(queue.popleft()) for _ in range(len(queue))]
            transport = protocol.transport
            answers = transport.dataBuffer[transport.offset :] + b"".join(transport._tempDataBuffer)
            results.append((messages, answers))
    return difference(results)


def _content(event: dict[str, Any]) -> bytes:
    text = event.get("text")
    content: bytes = text.encode() if text is not None else event.get("bytes") or b""
    return content
