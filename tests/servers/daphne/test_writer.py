"""The writer past Twisted's buffer, on a real socket whose transport the test drives by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest

from bus.realtime.frame import Batch, masked_frame, text_frame
from bus.realtime.writer import Bounds
from bus.servers.daphne.writer import DaphneWriter, fault, opened_protocol
from tests.servers.payloads import PAYLOADS

pytestmark = pytest.mark.pure


def received(transport: Any, theirs: socket.socket) -> bytes:
    """Everything that the transport has, as the peer gets it."""
    got = bytearray()
    while True:
        waits = bool(transport.dataBuffer or transport._tempDataBuffer)
        if waits:
            transport.doWrite()
        try:
            got += theirs.recv(1 << 16)
        except BlockingIOError:
            if not waits:
                return bytes(got)


@pytest.fixture
def pair() -> Any:
    """Daphne's protocol after its handshake, and the other end of its socket; small buffers, so that writes are partial."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        theirs.setblocking(False)
        protocol = opened_protocol(ours)
        assert received(protocol.transport, theirs).startswith(b"HTTP/1.1 101")
        yield protocol, theirs


async def test_direct_writes_keep_their_order_among_pings_answers_and_the_close(pair: Any) -> None:
    protocol, theirs = pair
    overflows: list[int] = []
    writer = DaphneWriter(protocol, Bounds(), lambda: overflows.append(1))
    expected = b""
    for number, payload in enumerate(PAYLOADS):
        writer.write(Batch([payload]))
        expected += text_frame(payload)
        protocol.sendPing(b"%d" % number)
        expected += b"\x89\x01%d" % number
        writer.send(b"answer")
        writer.send(b"answer 2")
        writer.flush()
        expected += text_frame(b"answer") + text_frame(b"answer 2")
    assert writer.buffered() > 100_000, "the socket took all at once, so nothing was tried"
    writer.send(b"last")
    writer.close(4012)
    writer.write(Batch([b"behind the close frame"]))
    expected += text_frame(b"last") + b"\x88\x02" + (4012).to_bytes(2, "big")
    assert received(protocol.transport, theirs) == expected
    assert not overflows
    protocol.closeHandshakeTimeoutCall.cancel()


async def test_nothing_is_written_behind_a_close_frame_whoever_began_to_close(pair: Any) -> None:
    protocol, theirs = pair
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"before"]))
    protocol.dataReceived(masked_frame(b"\x03\xe8", b"mask", first=0x88))  # The peer's; Autobahn answers it.
    writer.write(Batch([b"behind"]))
    writer.send(b"behind")
    writer.flush()
    assert received(protocol.transport, theirs) == text_frame(b"before") + b"\x88\x02\x03\xe8"


async def test_the_end_leaves_the_servers_objects_as_they_were(pair: Any) -> None:
    protocol, theirs = pair
    before = set(vars(protocol)), set(vars(protocol.transport))
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"before"]))
    writer.end()
    writer.write(Batch([b"behind"]))
    assert (set(vars(protocol)), set(vars(protocol.transport))) == before
    assert received(protocol.transport, theirs) == text_frame(b"before")


async def test_writes_go_around_an_empty_buffer_and_through_a_full_one(pair: Any) -> None:
    protocol, theirs = pair
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"small"]))
    assert theirs.recv(100) == text_frame(b"small"), "it is there without a turn of the loop"
    writer.write(Batch([b"x" * 200_000]))
    first = theirs.recv(100)
    assert writer.buffered() > 0
    writer.write(Batch([b"behind"]))
    assert first + received(protocol.transport, theirs) == text_frame(b"x" * 200_000) + text_frame(b"behind")
    assert (writer.buffered(), writer.taken() > 0) == (0, True)
    writer._timer.cancel()  # type: ignore[union-attr]


@pytest.mark.parametrize("bounds", [Bounds(bytes=500_000), Bounds(frames=50)], ids=["bytes", "frames"])
async def test_what_waits_is_bounded_and_the_owner_is_told_once(pair: Any, bounds: Bounds) -> None:
    protocol, _ = pair
    overflows: list[int] = []
    writer = DaphneWriter(protocol, bounds, lambda: overflows.append(1))
    size = 10_000
    for _ in range(3000):
        writer.write(Batch([b"x" * size]))
    assert overflows == [1]
    assert writer.buffered() <= bounds.bytes + size + 10
    writer.abort()


async def test_a_peer_that_takes_nothing_for_the_deadline_is_given_up_and_one_that_takes_a_little_is_not(
    pair: Any, pass_time: Callable[[float], Awaitable[None]]
) -> None:
    protocol, theirs = pair
    told = asyncio.Event()
    deadline = 100.0
    writer = DaphneWriter(protocol, Bounds(bytes=10_000_000, deadline=deadline), told.set)
    writer.write(Batch([b"x" * 5_000_000]))
    for _ in range(6):
        before = writer.taken()
        theirs.recv(200_000)
        protocol.transport.doWrite()
        assert writer.taken() > before, "it took some of it"
        await pass_time(deadline / 2)
        assert not told.is_set()
    assert writer.buffered() > 0
    assert writer.linger == deadline
    await pass_time(deadline)
    assert told.is_set(), "it took nothing for all of the deadline"
    assert writer.linger == 1.0, "it does not get as long again for its close frame"
    writer.abort()


def test_the_installed_version_passes_the_self_test() -> None:
    assert fault() is None
