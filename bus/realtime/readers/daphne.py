"""Text frames under daphne, before Autobahn's parser.

Internals used, and nothing else of them, besides those of ``writers.daphne``: Twisted's transport calls
``protocol.dataReceived``, which an attribute of the object can stand for; Autobahn's ``data``, ``current_frame`` and
``inside_message`` tell that no frame is half read; ``autoPingTimeoutCall`` and ``_cancelAutoPingTimeoutCall``; daphne's
``last_ping`` and ``application_queue``. ``fault`` tries them out once in a process. Of Twisted's asyncio reactor ``_readers``,
``_readOrWrite`` and ``_asyncioEventloop``, where they are there.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from ..frame import masked_frame
from ..writers.daphne import opened_protocol
from .base import OPEN, Reader, difference, sample


class DaphneReader(Reader):
    """Takes the place of ``protocol.dataReceived``."""

    __slots__ = ("_open", "_protocol", "_queue")

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol.dataReceived)
        self._protocol = protocol
        self._queue = protocol.application_queue
        self._open = protocol.STATE_OPEN
        protocol.dataReceived = self.feed
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
        # Any traffic of the client is a sign of life.
        protocol.last_ping = time.time()
        if protocol.autoPingTimeoutCall:
            protocol._cancelAutoPingTimeoutCall()
        self._feed(data)

    def end(self) -> None:
        """The connection is over."""
        self._through = True
        self._take = self._writer = None
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


def _watch_plainly(transport: Any) -> None:
    """Let the loop call the reactor's reading itself, without a log context around each of its calls (2 µs of CPU).

    The reactor knows nothing of it: when it stops watching the socket this ends, and when it begins again it is as ever.
    """
    reactor = getattr(transport, "reactor", None)
    loop, read = getattr(reactor, "_asyncioEventloop", None), getattr(reactor, "_readOrWrite", None)
    if loop is None or read is None or transport not in getattr(reactor, "_readers", ()):
        return
    loop.add_reader(transport.fileno(), read, transport, True)


def at_boundary(protocol: Any) -> bool:
    """Whether Autobahn has read whole frames only."""
    return (
        not protocol.data
        and protocol.current_frame is None
        and not protocol.inside_message
        and hasattr(protocol, "application_queue")
        and hasattr(protocol, "last_ping")
    )


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
                if not at_boundary(protocol):
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
