"""Text frames under uvicorn's `websockets-sansio` implementation, before the parser of `websockets`.

Internals used, and nothing else of them, besides those of ``writers.uvicorn``: ``protocol.data_received``, which an attribute
of the object can stand for once the transport is told again whom it serves; ``queue``, ``close_sent``, ``read_paused``;
``conn.reader.buffer``, which is empty when nothing came behind the handshake. ``fault`` tries them out once in a process.
"""

from __future__ import annotations

from typing import Any

from ..frame import HANDSHAKE
from .base import OPEN, Reader, difference, sample


class UvicornReader(Reader):
    """Takes the place of ``protocol.data_received``; to be made in the turn in which the handshake is answered."""

    __slots__ = ("_conn", "_open", "_protocol", "_queue")

    def __init__(self, protocol: Any) -> None:
        from websockets.protocol import State

        super().__init__(protocol.data_received)
        self._protocol = protocol
        self._conn = protocol.conn
        self._open = State.OPEN
        self._queue = protocol.queue
        protocol.data_received = self.feed
        # uvloop's transports keep the method, not the object.
        protocol.transport.set_protocol(protocol)

    def feed(self, data: bytes) -> None:
        """Bytes from the transport."""
        self._feed(data)

    def end(self) -> None:
        """The connection is over."""
        self._through = True
        self._take = self._writer = None
        # A transport that keeps the method goes on with this object, which passes everything through.
        self._protocol.__dict__.pop("data_received", None)

    def _waiting(self) -> int:
        waiting: int = self._queue.qsize()
        return waiting

    def _ended(self) -> bool:
        return self._protocol.close_sent or self._conn.state is not self._open

    def _enqueue(self, event: dict[str, Any]) -> None:
        protocol = self._protocol
        if protocol.close_sent:
            return
        self._queue.put_nowait(event)
        # As uvicorn does: nothing more is read until the application has taken what is there.
        if not protocol.read_paused:
            protocol.read_paused = True
            protocol.transport.pause_reading()


def at_boundary(protocol: Any) -> bool:
    """Whether `websockets` has read the handshake and nothing else."""
    return (
        not protocol.conn.reader.buffer
        and protocol.handshake_complete
        and not protocol.close_sent
        and not protocol.frames
        and isinstance(protocol.read_paused, bool)
        and hasattr(protocol.queue, "put_nowait")
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
        if conn.reader.buffer:
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

    def end(self) -> None:
        """There is nothing to leave."""

    def feed(self, data: bytes) -> None:
        self._feed(data)

    def _waiting(self) -> int:
        return 0

    def _ended(self) -> bool:
        return False

    def _enqueue(self, event: dict[str, Any]) -> None:
        raise LookupError("the reader did not hand the message over")  # The self-test says so.
