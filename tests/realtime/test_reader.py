"""What all readers share: order with the queue, memory, and the limits of frames that are no messages."""

from __future__ import annotations

from typing import Any

import pytest

from bus.realtime.frame_limits import FLOOD
from bus.servers.selftest import OPEN
from tests.realtime.conversations import CONTINUED, QueuedReader, frame

pytestmark = pytest.mark.pure


class OpenOrClosed:
    """As much of a writer as a reader needs."""

    closed = False


def test_messages_wait_in_the_queue_while_the_owner_is_at_work_so_that_none_overtakes() -> None:
    reader = QueuedReader()
    taken: list[bytes] = []

    def take(data: bytes) -> bytes | None:
        if data == b"slow":
            return b"rest of slow"
        taken.append(data)
        return None

    reader.feed(frame(b"early"))  # before the owner is ready
    reader.queue.clear()
    writer: Any = OpenOrClosed()
    reader.begin(writer, take)
    reader.feed(frame(b"one") + frame(b"slow") + frame(b"two"))
    assert taken == [b"one"]
    assert reader.queue == [
        {"type": "arqonbus.frame", "frame": b"rest of slow"},
        {"type": "websocket.receive", "bytes": b"two", "arqonbus.text": True},
    ]
    reader.queue.clear()
    reader.feed(frame(b"three"))
    assert [event["bytes"] for event in reader.queue] == [b"three"], "the owner is still busy"
    reader.queue.clear()
    reader.busy = False
    reader.feed(frame(b"four"))
    assert taken == [b"one", b"four"]
    writer.closed = True
    reader.feed(frame(b"five"))
    assert [event["bytes"] for event in reader.queue] == [b"five"], "a closed connection takes nothing by itself"


def test_a_long_frame_that_arrives_in_parts_is_not_gathered_in_memory() -> None:
    reader = QueuedReader()
    reader.begin(OPEN, lambda data: None)
    long = frame(b"y" * 60_000)
    for start in range(0, len(long), 5000):
        reader.feed(long[start : start + 5000])
        assert len(reader._partial) <= 5000
    assert b"".join(reader.passed_on) == long


def test_long_messages_are_no_flood_and_parts_of_messages_are() -> None:
    """However many: whole messages are what the limits of messages count."""
    floods: list[str] = []
    reader = QueuedReader()
    reader.begin(OPEN, lambda data: None, floods.append, lambda: True)
    long = frame(b"y" * 66_000)
    for _ in range(3000):
        reader.feed(long[:30_000])
        reader.feed(long[30_000:])
        reader.passed_on.clear()
    assert not floods
    parts = frame(b"", final=False) + frame(b"", CONTINUED)
    for _ in range(3000):
        reader.feed(parts)
    assert floods == [FLOOD], "said once; nothing more is read then"
