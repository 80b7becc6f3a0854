"""Text frames under daphne, before Autobahn's parser.

Internals used, and nothing else of them, besides those of ``writers.daphne``: Twisted's transport calls
``protocol.dataReceived``, which an attribute of the object can stand for; Autobahn's ``data``, ``current_frame`` with
``opcode``, ``fin`` and ``length``, ``current_frame_masker.pointer`` and ``inside_message`` tell where its parser is;
``maxMessagePayloadSize`` and ``maxFramePayloadSize``; ``autoPingTimeoutCall`` and ``_cancelAutoPingTimeoutCall``; daphne's
``last_ping`` and ``application_queue``. ``fault`` tries them out once in a process. Of Twisted's asyncio reactor ``_readers``,
``_readOrWrite`` and ``_asyncioEventloop``, where they are there.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from typing import Any

from ...realtime.frame import MAX_FRAME, masked_frame
from ...realtime.odd_frames import Allowance
from ...realtime.reader import LARGEST, LINGER, OPEN, Place, Reader, difference, sample
from ...realtime.writer import Send
from .writer import opened_protocol


class DaphneReader(Reader):
    """Takes the place of ``protocol.dataReceived``. One that is not ``quick`` leaves all of the reading to Autobahn."""

    __slots__ = ("_open", "_protocol", "_queue", "_quick")

    def __init__(self, protocol: Any, *, quick: bool = True, allowance: Allowance | None = None) -> None:
        for name in ("maxMessagePayloadSize", "maxFramePayloadSize"):
            setattr(protocol, name, min(getattr(protocol, name, 0) or MAX_FRAME, MAX_FRAME))
        super().__init__(
            protocol.dataReceived,
            quick=quick,
            largest=min(LARGEST, protocol.maxMessagePayloadSize, protocol.maxFramePayloadSize),
            place=place_of(protocol),
            allowance=allowance,
        )
        self._protocol = protocol
        self._queue = protocol.application_queue
        self._open = protocol.STATE_OPEN
        self._quick = quick
        protocol.dataReceived = self.feed
        if quick:
            _watch_plainly(protocol.transport)

    def feed(self, data: bytes) -> None:
        """Bytes from the transport, or all that is left to Autobahn while it closes."""
        protocol = self._protocol
        if self._deaf:
            return
        if protocol.state != self._open:
            if self._kept:
                data, self._kept = self._kept + data, b""
            self._server(data)
            return
        if self._quick:
            # Any traffic of the client is a sign of life.
            protocol.last_ping = time.time()
            if protocol.autoPingTimeoutCall:
                protocol._cancelAutoPingTimeoutCall()
        self._feed(data)

    def cut(self) -> None:
        """Read nothing more, and end the line in a moment."""
        transport = self._protocol.transport
        transport.pauseProducing()
        asyncio.get_running_loop().call_later(LINGER, transport.abortConnection)

    def _leave(self) -> None:
        protocol = self._protocol
        protocol.__dict__.pop("dataReceived", None)
        over: Any = getattr(protocol, "is_closed", None)
        if getattr(over, "result", None) is protocol:
            # Autobahn's note that it is over holds the protocol, and the protocol the note: 20 KiB until the collector comes.
            over.result = None

    def _waiting(self) -> int:
        waiting: int = self._queue.qsize()
        return waiting

    def _ended(self) -> bool:
        ended: bool = self._protocol.state != self._open
        return ended

    def _enqueue(self, event: dict[str, Any]) -> None:
        self._queue.put_nowait(event)


def socket_of(send: Send) -> Any | None:
    """Autobahn's protocol behind daphne's ``send``, whatever its transport is; None for another server."""
    if not isinstance(send, functools.partial) or len(send.args) != 1:
        return None
    protocol = send.args[0]
    known = (
        hasattr(protocol, "dataReceived") and hasattr(protocol, "application_queue") and hasattr(protocol, "last_ping")
    )
    return protocol if known and place_of(protocol) is not None else None


def place_of(protocol: Any) -> Place | None:
    """Where Autobahn is in its stream of frames; None where it does not say so as expected."""
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


def _watch_plainly(transport: Any) -> None:
    """Let the loop call the reactor's reading itself, without a log context around each of its calls (2 µs of CPU).

    The reactor knows nothing of it: when it stops watching the socket this ends, and when it begins again it is as ever.
    """
    reactor = getattr(transport, "reactor", None)
    loop, read = getattr(reactor, "_asyncioEventloop", None), getattr(reactor, "_readOrWrite", None)
    if loop is None or read is None or transport not in getattr(reactor, "_readers", ()):
        return
    loop.add_reader(transport.fileno(), read, transport, True)


def fault() -> str | None:
    """What is not as this module expects it, or None: the same bytes both ways give the same messages and answers."""
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
                    return "the parser's position is not where it was"
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
