"""The writer of a stream of events: frames wait within bounds until the response takes them."""

from __future__ import annotations

import asyncio

import pytest

from bus.realtime.event_writer import EventWriter
from bus.realtime.frame import Batch
from bus.realtime.writer import Bounds

pytestmark = pytest.mark.pure


def never() -> None:
    """Nothing is to overflow."""
    raise AssertionError("it overflowed")


async def test_frames_come_in_order_all_that_wait_at_once() -> None:
    writer = EventWriter(Bounds(), never)
    writer.send(b"answer")
    writer.write(Batch([b"one", b"two"]))
    assert writer.buffered() == len(b"answeronetwo")
    assert await writer.next_frames(10) == [b"answer", b"one", b"two"]
    assert writer.buffered() == 0


async def test_a_response_that_waits_gets_the_next_frame_and_an_idle_one_nothing() -> None:
    writer = EventWriter(Bounds(), never)
    assert await writer.next_frames(0) == []
    waiting = asyncio.create_task(writer.next_frames(30))
    await asyncio.sleep(0)
    writer.write(Batch([b"one"]))
    assert await asyncio.wait_for(waiting, 10) == [b"one"]


async def test_closing_ends_the_wait_and_keeps_what_was_written_before() -> None:
    writer = EventWriter(Bounds(), never)
    waiting = asyncio.create_task(writer.next_frames(30))
    await asyncio.sleep(0)
    writer.send(b"last")
    writer.close(4012)
    writer.close(4013)
    writer.write(Batch([b"behind the end"]))
    assert await asyncio.wait_for(waiting, 10) == [b"last"]
    assert (writer.close_code, writer.closed) == (4012, True)
    assert await writer.next_frames(30) == [], "it is over, so there is no wait"


async def test_aborting_drops_what_waits() -> None:
    writer = EventWriter(Bounds(), never)
    writer.write(Batch([b"one"]))
    writer.abort()
    assert await writer.next_frames(30) == []


@pytest.mark.parametrize("bounds", [Bounds(bytes=100), Bounds(frames=5)], ids=["bytes", "frames"])
async def test_more_than_the_bounds_is_reported_once(bounds: Bounds) -> None:
    overflows: list[int] = []
    writer = EventWriter(bounds, lambda: overflows.append(1))
    for _ in range(5):
        writer.write(Batch([b"x" * 20]))
    assert not overflows
    for _ in range(5):
        writer.write(Batch([b"x" * 20]))
    assert overflows == [1]


async def test_what_the_server_holds_back_counts_and_is_waited_for() -> None:
    backlog, asked = 1000, asyncio.Event()

    def held_back() -> int:
        asked.set()
        return backlog

    writer = EventWriter(Bounds(bytes=2000), never, held_back)
    writer.write(Batch([b"one"]))
    assert writer.buffered() == 1003
    asked.clear()
    waiting = asyncio.create_task(writer.next_frames(30))
    await asyncio.wait_for(asked.wait(), 10)
    assert not waiting.done(), "the server holds more than a quarter of the bound"
    backlog = 500
    assert await asyncio.wait_for(waiting, 10) == [b"one"]


async def test_a_client_that_takes_nothing_of_the_server_s_backlog_is_given_up() -> None:
    writer = EventWriter(Bounds(bytes=2000, deadline=0.01), never, lambda: 1000)
    writer.write(Batch([b"one"]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(writer.next_frames(30), 10)
