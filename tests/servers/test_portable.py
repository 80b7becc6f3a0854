"""The writer for any ASGI server: what it sends, in which order, and what it does with a client that takes nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus.realtime.frame import Batch
from bus.realtime.writer import Bounds
from bus.servers.portable import PortableWriter
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.pure


class Server:
    """An ASGI server's ``send``, which a slow client holds up while ``open`` is not set."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.gone = False

    async def __call__(self, event: Any) -> None:
        await self.open.wait()
        if self.gone:
            raise RuntimeError("the client is gone")
        self.sent.append(event.get("text") or event.get("code"))


async def test_frames_and_the_close_leave_in_the_order_of_the_calls() -> None:
    server = Server()
    writer = PortableWriter(server, Bounds(), lambda: None)
    writer.send(b"answer")
    writer.write(Batch([b"one", b"two"]))
    writer.send(b"last")
    writer.close(4012)
    writer.write(Batch([b"behind the close frame"]))
    await wait_for(lambda: 4012 in server.sent, "the close frame left")
    assert server.sent == ["answer", "one", "two", "last", 4012]


@pytest.mark.parametrize("bounds", [Bounds(bytes=100), Bounds(frames=10)], ids=["bytes", "frames"])
async def test_what_waits_is_bounded_and_an_overflow_is_reported_once(bounds: Bounds) -> None:
    server, overflows = Server(), list[int]()
    server.open.clear()
    writer = PortableWriter(server, bounds, lambda: overflows.append(1))
    for _ in range(100):
        writer.write(Batch([b"x" * 10]))
        await asyncio.sleep(0)
    assert overflows == [1]
    assert writer.buffered() <= 120, "little more than the bound"
    writer.abort()
    assert writer.buffered() == 0


async def test_a_client_that_takes_nothing_for_the_deadline_is_an_overflow() -> None:
    server, overflowed = Server(), asyncio.Event()
    server.open.clear()
    writer = PortableWriter(server, Bounds(deadline=0.05), overflowed.set)
    writer.write(Batch([b"one"]))
    await asyncio.wait_for(overflowed.wait(), 10)
    writer.close(4013)
    await wait_for(lambda: not writer.buffered(), "what waits is dropped")
    assert server.sent == []


async def test_after_an_error_of_the_server_nothing_more_is_kept() -> None:
    server = Server()
    server.gone = True
    writer = PortableWriter(server, Bounds(), lambda: None)
    writer.write(Batch([b"one", b"two"]))
    await wait_for(writer.disconnected, "the writer noticed it")
    writer.write(Batch([b"three"]))
    assert (writer.buffered(), server.sent) == (0, [])
