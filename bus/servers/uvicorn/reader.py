"""Text frames under uvicorn's `websockets-sansio` implementation, before the parser of `websockets`.

Internals used, and nothing else of them, besides those of ``writers.uvicorn``: ``protocol.data_received``, which an attribute
of the object can stand for once the transport is told again whom it serves; ``queue``, ``close_sent``, ``read_paused``;
``conn.max_message_size``; ``conn.reader.buffer``, ``conn.current_size`` and the generators below ``conn.parser``, which tell
where the parser is. ``fault`` tries them out once in a process. Of the older implementations (``websockets``, ``wsproto``)
``data_received`` and ``transport`` alone, for the limits.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from ...realtime.frame import HANDSHAKE, MAX_FRAME
from ...realtime.odd_frames import Allowance
from ...realtime.reader import LARGEST, LINGER, OPEN, Place, Reader, difference, sample
from ...realtime.writer import Send


class UvicornReader(Reader):
    """Takes the place of ``protocol.data_received``; to be made in the turn in which the handshake is answered.

    One that is not ``quick`` leaves all of the reading to the server's parser.
    """

    __slots__ = ("_conn", "_open", "_protocol", "_queue")

    def __init__(self, protocol: Any, *, quick: bool = True, allowance: Allowance | None = None) -> None:
        from websockets.protocol import State

        conn: Any = getattr(protocol, "conn", None)
        largest = LARGEST
        if isinstance(getattr(conn, "max_message_size", self), int | None):
            conn.max_message_size = min(conn.max_message_size or MAX_FRAME, MAX_FRAME)
            largest = min(largest, conn.max_message_size)
        super().__init__(
            protocol.data_received, quick=quick, largest=largest, place=place_of(protocol), allowance=allowance
        )
        self._protocol = protocol
        self._conn = conn
        self._open = State.OPEN
        self._queue: Any = getattr(protocol, "queue", None)
        protocol.data_received = self.feed
        # uvloop's transports keep the method, not the object.
        protocol.transport.set_protocol(protocol)

    def feed(self, data: bytes) -> None:
        """Bytes from the transport."""
        if self._deaf:
            # Closing made uvicorn read again.
            self._protocol.transport.pause_reading()
            return
        self._feed(data)

    def cut(self) -> None:
        """Read nothing more, and end the line in a moment."""
        transport = self._protocol.transport
        transport.pause_reading()
        asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def _leave(self) -> None:
        # A transport that keeps the method goes on with this object, which passes everything through.
        self._protocol.__dict__.pop("data_received", None)

    def _waiting(self) -> int:
        waiting: int = self._queue.qsize()
        return waiting

    def _ended(self) -> bool:
        if getattr(self._protocol, "close_sent", False):
            return True
        return self._usual > 0 and self._conn.state is not self._open

    def _enqueue(self, event: dict[str, Any]) -> None:
        protocol = self._protocol
        if protocol.close_sent:
            return
        self._queue.put_nowait(event)
        # As uvicorn does: nothing more is read until the application has taken what is there.
        if not protocol.read_paused:
            protocol.read_paused = True
            protocol.transport.pause_reading()


def socket_of(send: Send) -> Any | None:
    """uvicorn's WebSocket protocol behind ``send``, of whichever implementation; None for another server."""
    protocol = getattr(send, "__self__", None)
    if not type(protocol).__module__.startswith("uvicorn.protocols.websockets."):
        return None
    transport = getattr(protocol, "transport", None)
    needed = ("set_protocol", "pause_reading", "abort")
    known = hasattr(protocol, "data_received") and all(hasattr(transport, name) for name in needed)
    return protocol if known else None


def place_of(protocol: Any) -> Place | None:
    """Where `websockets` is in its stream of frames, which can be told between two frames; else None."""
    conn: Any = getattr(protocol, "conn", None)
    try:
        if conn.reader.buffer:
            return None
        waits = conn.parser
        while getattr(waits, "gi_yieldfrom", None) is not None:
            waits = waits.gi_yieldfrom
        between = waits.gi_code is type(conn.reader).at_eof.__code__
    except AttributeError:
        return None
    return Place(inside=conn.current_size is not None) if between else None


def whole(protocol: Any) -> bool:
    """Whether the object is the one that is read quickly."""
    return isinstance(getattr(protocol, "read_paused", None), bool) and hasattr(
        getattr(protocol, "queue", None), "put_nowait"
    )


def fault() -> str | None:
    """What is not as this module expects it, or None: whole frames one by one give `websockets` what one stream gives it."""
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    stream = sample()
    results = []
    for direct, step in ((False, len(stream)), (True, len(stream)), (True, 7)):
        conn = ServerProtocol()
        conn.receive_data(HANDSHAKE)
        (request,) = conn.events_received()
        assert isinstance(request, Request)
        conn.send_response(conn.accept(request))
        conn.data_to_send()
        if place_of(SimpleNamespace(conn=conn)) != Place():
            return "the parser's position is not where it was"
        messages: list[bytes] = []

        def server(data: bytes, conn: ServerProtocol = conn, messages: list[bytes] = messages) -> None:
            conn.receive_data(data)
            messages += [bytes(frame.data) for frame in conn.events_received() if frame.opcode < 8]  # type: ignore[union-attr]

        reader = _Plain(server)
        reader.begin(OPEN, messages.append)
        feed = reader.feed if direct else server
        for position in range(0, len(stream), step):
            feed(stream[position : position + step])
        results.append((messages, b"".join(conn.data_to_send())))
    return difference(results)


class _Plain(Reader):
    """In front of a parser alone, without a server and its queue."""

    def _leave(self) -> None: ...

    def feed(self, data: bytes) -> None:
        self._feed(data)

    def _waiting(self) -> int:
        return 0

    def _ended(self) -> bool:
        return False

    def _enqueue(self, event: dict[str, Any]) -> None:
        raise LookupError("the reader did not hand the message over")  # The self-test says so.
