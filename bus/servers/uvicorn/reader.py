"""Reading text frames under uvicorn's ``websockets-sansio`` implementation, before the parser of ``websockets``.

Internals used, and no others, besides those of ``writer``: ``protocol.data_received``, which an attribute of the object can
replace once the transport is given its protocol again; ``queue``, ``close_sent``, ``read_paused``; ``conn.max_message_size``;
``conn.reader.buffer``, ``conn.current_size`` and the generators below ``conn.parser``, which say where the parser is. ``fault``
compares both ways once in a process. Of the older implementations (``websockets``, ``wsproto``) ``data_received`` and
``transport`` alone, for the limits. Uvicorn bounds its queue itself: it reads one frame at a time.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from ...realtime.frame import MAX_FRAME
from ...realtime.frame_limits import FragmentBudget
from ...realtime.reader import LARGEST, LINGER, Place, Reader
from ...realtime.writer import Send
from ..adapter import Allowed, Pings
from ..selftest import HANDSHAKE, OPEN, PlainReader, difference, sample
from .writer import protocol_of


def attach(
    send: Send, allowed: Allowed, *, budget: FragmentBudget | None = None, pings: Pings | None = None
) -> Reader | None:
    """Put a reader in front of the parser of ``websockets`` (:meth:`bus.servers.adapter.ReaderModule.attach`).

    ``pings`` are ignored: uvicorn sets up its pings before there is a connection.
    """
    protocol = socket_of(send)
    if protocol is None:
        return None
    direct = protocol_of(send) is not None and _is_complete(protocol)
    if direct and place_of(protocol) is None:
        # A client has to wait for the answer to its handshake. This one did not, and what it sent ends inside a frame, so the
        # reader and the server would not agree where the next frame begins.
        protocol.transport.abort()
        direct = False
    return UvicornReader(protocol, direct=direct and allowed(), budget=budget)


class UvicornReader(Reader):
    """Takes the place of ``protocol.data_received``. Make it in the loop turn in which the handshake is answered.

    A reader that is not ``direct`` leaves all reading to the server's parser.
    """

    __slots__ = ("_conn", "_open", "_protocol", "_queue")

    def __init__(self, protocol: Any, *, direct: bool = True, budget: FragmentBudget | None = None) -> None:
        from websockets.protocol import State

        conn: Any = getattr(protocol, "conn", None)
        largest = LARGEST
        if isinstance(getattr(conn, "max_message_size", self), int | None):
            conn.max_message_size = min(conn.max_message_size or MAX_FRAME, MAX_FRAME)
            largest = min(largest, conn.max_message_size)
        super().__init__(
            protocol.data_received, direct=direct, largest=largest, place=place_of(protocol), budget=budget
        )
        self._protocol = protocol
        self._conn = conn
        self._open = State.OPEN
        self._queue: Any = getattr(protocol, "queue", None)
        protocol.data_received = self.feed
        # uvloop's transports keep the method, not the object.
        protocol.transport.set_protocol(protocol)

    def feed(self, data: bytes) -> None:
        """Read bytes from the transport."""
        if self._stopped:
            # Closing made uvicorn read again.
            self._protocol.transport.pause_reading()
            return
        self._feed(data)

    def cut(self) -> None:
        transport = self._protocol.transport
        transport.pause_reading()
        asyncio.get_running_loop().call_later(LINGER, transport.abort)

    def _detach(self) -> None:
        # A transport that keeps the method keeps this object, which passes everything through.
        self._protocol.__dict__.pop("data_received", None)

    def _queued(self) -> int:
        waiting: int = self._queue.qsize()
        return waiting

    def _closing(self) -> bool:
        if getattr(self._protocol, "close_sent", False):
            return True
        return self._usual > 0 and self._conn.state is not self._open

    def _enqueue(self, event: dict[str, Any]) -> None:
        protocol = self._protocol
        if protocol.close_sent:
            return
        self._queue.put_nowait(event)
        # As uvicorn does: nothing more is read until the application has taken the waiting message.
        if not protocol.read_paused:
            protocol.read_paused = True
            protocol.transport.pause_reading()


def socket_of(send: Send) -> Any | None:
    """Uvicorn's WebSocket protocol behind ``send``, of any implementation; None for another server."""
    protocol = getattr(send, "__self__", None)
    if not type(protocol).__module__.startswith("uvicorn.protocols.websockets."):
        return None
    transport = getattr(protocol, "transport", None)
    needed = ("set_protocol", "pause_reading", "abort")
    known = hasattr(protocol, "data_received") and all(hasattr(transport, name) for name in needed)
    return protocol if known else None


def place_of(protocol: Any) -> Place | None:
    """Where ``websockets`` is in its stream of frames; None inside a frame, where its position is unknown."""
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


def _is_complete(protocol: Any) -> bool:
    """Whether the protocol object has what direct reading needs."""
    return isinstance(getattr(protocol, "read_paused", None), bool) and hasattr(
        getattr(protocol, "queue", None), "put_nowait"
    )


def fault() -> str | None:
    """The self-test: the same bytes give the same messages and answers both ways. Returns what is wrong, or None."""
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
            return "the parser's position is not where expected"
        messages: list[bytes] = []

        def server(data: bytes, conn: ServerProtocol = conn, messages: list[bytes] = messages) -> None:
            conn.receive_data(data)
            messages += [bytes(frame.data) for frame in conn.events_received() if frame.opcode < 8]  # type: ignore[union-attr]

        reader = PlainReader(server)
        reader.begin(OPEN, messages.append)
        feed = reader.feed if direct else server
        for position in range(0, len(stream), step):
            feed(stream[position : position + step])
        results.append((messages, b"".join(conn.data_to_send())))
    return difference(results)
