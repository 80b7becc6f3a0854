"""What a process holds of messages that came before their turn is bounded; the log has the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from bus.log import Entry, append_batch
from bus.models import Channel, Room
from bus.node.delivery.streams import EARLY, EARLY_BYTES, Streams
from bus.node.runtime import Args, Result
from bus.notify.broker import NullBroker
from bus.realtime.event_writer import EventWriter
from bus.realtime.hub import Hub
from bus.realtime.recent import RecentBudget
from bus.realtime.writer import Bounds, Writer

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = 700


class Member:
    """Somebody who listens, with a writer that keeps everything."""

    def __init__(self) -> None:
        self.events = EventWriter(Bounds(bytes=1 << 30, frames=10_000, deadline=60.0), lambda: None)
        self.writer: Writer = self.events


@pytest.mark.parametrize("size", [10, 10_000])
async def test_messages_after_a_lost_one_are_not_gathered_while_the_database_does_not_answer(size: int) -> None:
    with ThreadPoolExecutor(1) as thread:
        loop = asyncio.get_running_loop()

        def write() -> tuple[Channel, list[Entry]]:
            channel = Channel.objects.create(room=Room.objects.create(name="lab"), name="bench")
            made = [
                Entry(channel.id, b'{"id":"1"', b',"m":"%b"}' % (b"x" * size), uid=f"u{n}", type="event", sender="s")
                for n in range(COUNT)
            ]
            append_batch(made, window=3600)
            return channel, made

        channel, entries = await loop.run_in_executor(thread, write)
        answers = asyncio.Event()

        async def run(function: Callable[[*Args], Result], /, *args: *Args) -> Result:
            """The database's thread, which is slow."""
            await answers.wait()
            return await loop.run_in_executor(thread, function, *args)

        async def settled() -> None:
            """There are no commits of our own."""

        hub = Hub(loop, RecentBudget(messages=500, size=1 << 20, total=1 << 24))
        streams = Streams(hub, NullBroker(), run, settled, lambda address: None)
        stream = hub.open(channel.id, "lab", "bench", channel.epoch, 0)
        member = Member()
        hub.add(stream, member)
        try:
            for entry in entries[1:]:
                assert entry.seq is not None
                streams.committed(channel.id, entry.seq, entry.frame)
            assert 0 < len(stream.early) <= EARLY
            assert sum(len(delivery.frame) for delivery in stream.early.values()) < EARLY_BYTES + 2 * size
            answers.set()
            got: list[bytes] = []
            async with asyncio.timeout(20):
                while len(got) < COUNT:
                    got += await member.events.next_frames(5.0)
            assert got == [entry.frame for entry in entries]
            assert not stream.early
        finally:
            await loop.run_in_executor(thread, lambda: connection.close())
