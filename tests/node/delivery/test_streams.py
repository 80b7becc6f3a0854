"""Streams deliver each log in order, whatever order its messages come in; the log fills every hole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from bus.log import Entry, append_batch
from bus.models import Channel, Message, Room
from bus.node import Node
from bus.node.client import Clients
from bus.node.delivery.streams import EARLY, EARLY_BYTES, Streams, Vanished
from bus.node.interest import Interest
from bus.node.runtime import Args, Result
from bus.notify.broker import NullBroker
from bus.protocol.errors import SLOW
from bus.realtime.event_writer import EventWriter
from bus.realtime.hub import Hub, Stream
from bus.realtime.recent import RecentBudget
from bus.realtime.writer import Bounds, Writer
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

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
        streams = Streams(hub, Interest(NullBroker(), hub, Clients()), run, settled, lambda address: None)
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


class Heard:
    """A member of one open stream of a log."""

    def __init__(self, node: Node, stream: Stream) -> None:
        self.node, self.stream = node, stream
        self.member = Member()
        node.hub.add(stream, self.member)
        self.got: list[bytes] = []

    def comes(self, *entries: Entry) -> None:
        """A notification of these messages comes."""
        for entry in entries:
            assert entry.seq is not None
            self.node.streams.committed(self.stream.id, entry.seq, entry.frame, entry.exclude)

    async def has(self, entries: list[Entry]) -> None:
        """Wait until exactly these messages were delivered, in their order."""

        async def all_there() -> bool:
            self.got += await self.member.events.next_frames(0.0)
            return len(self.got) >= len(entries)

        await wait_for(all_there, f"{len(entries)} messages")
        assert self.got == [entry.frame for entry in entries]


@pytest.fixture
async def heard(node: Node, log: Log) -> Heard:
    """A member of the stream of an empty log."""
    (stream,) = await node.streams.open([log.ref])
    assert (stream.head, stream.epoch) == (0, log.ref.epoch)
    return Heard(node, stream)


async def test_a_stream_opens_at_the_head_of_its_log(node: Node, log: Log) -> None:
    await log.append("one", "two")
    (stream,) = await node.streams.open([log.ref])
    assert stream.head == 2
    assert await node.streams.open([log.ref, log.ref]) == [stream, stream]


async def test_a_deleted_channel_is_looked_up_again(node: Node, log: Log) -> None:
    await node.runtime.run_writer(lambda: Channel.objects.filter(id=log.ref.id).delete())
    with pytest.raises(Vanished) as refused:
        await node.streams.open([log.ref])
    assert refused.value.channel_id == log.ref.id
    assert node.channels.known(log.ref.address) is None
    assert node.hub.stream(log.ref.id) is None


async def test_a_message_is_delivered_once(heard: Heard, log: Log) -> None:
    entries = await log.append("one", "two", "three")
    heard.comes(entries[0], entries[0], entries[1], entries[0], entries[2])
    await heard.has(entries)


async def test_early_messages_wait_for_their_predecessor(heard: Heard, log: Log) -> None:
    entries = await log.append("one", "two", "three")
    heard.comes(entries[2], entries[1])
    assert heard.stream.head == 0
    heard.comes(entries[0])
    await heard.has(entries)
    assert not heard.stream.early


async def test_a_hole_is_read_from_the_log(heard: Heard, log: Log) -> None:
    entries = await log.append("one", "two", "three")
    heard.comes(entries[2])
    await heard.has(entries)
    assert (heard.node.streams.gaps, heard.node.streams.repaired) == (1, 3)


async def test_a_message_without_its_frame_is_read_from_the_log(heard: Heard, log: Log) -> None:
    (entry,) = await log.append("large")
    heard.node.streams.committed(heard.stream.id, 1, b"")
    await heard.has([entry])


async def test_a_repaired_message_still_leaves_out_its_sender(heard: Heard, log: Log) -> None:
    entries = await log.append("before", "mine")
    # This process's own commit comes before the notification of the message ahead of it.
    heard.node.streams.committed(heard.stream.id, 2, entries[1].frame, heard.member)
    other = Heard(heard.node, heard.stream)
    await other.has(entries)
    await heard.has(entries[:1])


async def test_a_message_that_the_log_no_longer_has_means_another_log(heard: Heard, log: Log) -> None:
    others: list[int] = []
    heard.node.streams.on_other_log = others.append
    entries = await log.append("one", "two")
    heard.comes(*entries)
    await heard.has(entries)

    def lose() -> None:
        Message.objects.filter(channel_id=log.ref.id, seq=2).delete()
        Channel.objects.filter(id=log.ref.id).update(head=1)

    await heard.node.runtime.run_writer(lose)
    heard.node.streams.compare(heard.stream)
    await wait_for(lambda: others, "the other log")
    assert others == [log.ref.id]


async def test_a_stream_without_members_is_forgotten_at_the_second_collection(node: Node, log: Log) -> None:
    (stream,) = await node.streams.open([log.ref])
    node.streams.collect()
    assert node.hub.stream(log.ref.id) is stream
    with node.streams.kept(stream):
        node.streams.collect()
    node.streams.collect()
    assert node.hub.stream(log.ref.id) is stream
    node.streams.collect()
    assert node.hub.stream(log.ref.id) is None


async def test_members_of_a_pruned_log_are_closed(node: Node, log: Log) -> None:
    client = NodeClient(node)
    (stream,) = await node.streams.open([log.ref])
    node.hub.add(stream, client.state)
    entries = await log.append("one", "two", "three")
    await node.runtime.run_writer(lambda: Message.objects.filter(channel_id=log.ref.id, seq__lt=3).delete())
    node.streams.committed(stream.id, 3, entries[2].frame)
    await wait_for(lambda: client.closed, "the client is closed")
    assert client.closed == (SLOW, "TOO_SLOW")
