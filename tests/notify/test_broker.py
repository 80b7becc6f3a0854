"""The layer's broker alone, without a node: over the layer in memory, and over a real Redis with both of its layers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from bus.notify.layer import links_over
from bus.notify.layer_broker import LayerBroker
from bus.notify.messages import (
    ChannelChanged,
    CommittedMessage,
    EphemeralFrame,
    EphemeralPublished,
    Notification,
    Published,
    to_layer,
)
from bus.notify.topics import CONTROL, channel_topic
from tests.harness.backends import Backends
from tests.harness.redis import RedisServer
from tests.harness.waiting import wait_for

MakeLayer = Callable[[], BaseChannelLayer]


class Process:
    """A broker, and what it received."""

    def __init__(self, layer: BaseChannelLayer, buffer: int = 1 << 20) -> None:
        self.received: list[Notification] = []
        self.reconnects = 0
        self.broker = LayerBroker(links_over(layer), self.receive, buffer=buffer)
        self.broker.on_reconnect = self.reconnected

    def receive(self, notification: Notification) -> None:
        """What a node would act on."""
        if notification == ChannelChanged("broken", ""):
            raise ValueError("this one cannot be acted on")
        self.received.append(notification)

    def reconnected(self) -> None:
        """The layer is back."""
        self.reconnects += 1

    async def receives(self, notification: Notification) -> None:
        """Wait for it."""
        await wait_for(lambda: notification in self.received, f"{notification} is received")


@pytest.fixture(params=["memory", *(pytest.param(name, marks=pytest.mark.cluster) for name in ("core", "pubsub"))])
def make_layer(request: pytest.FixtureRequest) -> Iterator[MakeLayer]:
    """The layer of one process; all of a test's processes meet in one place."""
    if request.param == "memory":
        shared = InMemoryChannelLayer()
        yield lambda: shared
    else:
        redis: RedisServer = request.getfixturevalue("redis_server")
        kind = RedisChannelLayer if request.param == "core" else RedisPubSubChannelLayer
        yield lambda: kind(hosts=[redis.url])


@pytest.fixture
async def two(make_layer: MakeLayer) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes that have started."""
    processes = Process(make_layer()), Process(make_layer())
    for process in processes:
        await process.broker.start()
    yield processes
    for process in processes:
        await process.broker.stop()


def overloaded(process: Process) -> bool:
    """Whether it refuses ephemeral messages now."""
    return process.broker.overloaded


def committed(channel_id: int, seq: int, frame: bytes = b"{}") -> Published:
    return Published([CommittedMessage(channel_id, "lab", f"c{channel_id}", "e1", seq, frame)])


async def test_a_notification_reaches_the_others_and_not_its_sender(two: tuple[Process, Process]) -> None:
    here, there = two
    here.broker.send(ChannelChanged("lab", "bench"))
    await there.receives(ChannelChanged("lab", "bench"))
    there.broker.send(ChannelChanged("lab", "back"))
    await here.receives(ChannelChanged("lab", "back"))
    assert here.received == [ChannelChanged("lab", "back")]


async def test_messages_come_in_their_order_and_only_from_subscribed_channels(two: tuple[Process, Process]) -> None:
    here, there = two
    await there.broker.follow(channel_topic(1))
    for seq in range(1, 31):
        here.broker.send(committed(2, seq))
        here.broker.send(committed(1, seq))
    await there.receives(committed(1, 30))
    assert there.received == [committed(1, seq) for seq in range(1, 31)]


async def test_a_topic_that_is_left_is_heard_no_more_and_one_that_is_taken_up_again_is(
    two: tuple[Process, Process],
) -> None:
    here, there = two
    await there.broker.follow(channel_topic(1))
    await there.broker.follow(channel_topic(2))
    there.broker.unfollow(channel_topic(1))
    # The changes go in their order: what is followed after the leaving shows that it is done.
    await there.broker.follow(channel_topic(3))
    await there.broker.follow(channel_topic(4))
    for channel in (1, 2):
        here.broker.send(committed(channel, 1))
    await there.receives(committed(2, 1))
    assert there.received == [committed(2, 1)]
    await there.broker.follow(channel_topic(1))
    here.broker.send(committed(1, 2))
    await there.receives(committed(1, 2))


async def test_one_notification_that_fails_does_not_stop_the_next(two: tuple[Process, Process]) -> None:
    here, there = two
    here.broker.send(ChannelChanged("broken", ""))
    here.broker.send(ChannelChanged("lab", "bench"))
    await there.receives(ChannelChanged("lab", "bench"))
    assert there.broker.connected


async def test_messages_of_other_programs_are_ignored(two: tuple[Process, Process], make_layer: MakeLayer) -> None:
    here, there = two
    (link,) = links_over(make_layer())
    forged = to_layer([ChannelChanged("lab", "forged")], "")
    forged["data"] = b"x" * 16 + forged["data"][16:]
    for message in (forged, {"type": "bus.notification"}, {"type": "x", "sender": {}, "data": 5}):
        await link.send([(CONTROL, message)])
    await link.close()
    here.broker.send(ChannelChanged("lab", "true"))
    await there.receives(ChannelChanged("lab", "true"))
    assert there.received == [ChannelChanged("lab", "true")]


@pytest.mark.cluster
@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
async def test_each_database_of_one_redis_is_a_place_of_its_own(
    redis_server: RedisServer, kind: type[RedisChannelLayer] | type[RedisPubSubChannelLayer]
) -> None:
    urls = [redis_server.url.removesuffix("0") + number for number in "011"]
    apart, here, there = (Process(kind(hosts=[url])) for url in urls)
    for process in (apart, here, there):
        await process.broker.start()
        await process.broker.follow(channel_topic(5))
    sent = EphemeralPublished([EphemeralFrame(5, b"{}")])
    here.broker.send(sent)
    await there.receives(sent)
    # Redis has passed everything on by then.
    apart.broker.send(sent)
    await asyncio.sleep(0.1)
    assert apart.received == []
    assert here.received == []
    assert there.received == [sent]
    for process in (apart, here, there):
        await process.broker.stop()


async def test_what_was_sent_before_the_end_still_arrives(make_layer: MakeLayer) -> None:
    here, there = Process(make_layer()), Process(make_layer())
    await here.broker.start()
    await there.broker.start()
    here.broker.send(ChannelChanged("lab", "last"))
    await here.broker.stop()
    await there.receives(ChannelChanged("lab", "last"))
    await there.broker.stop()


async def test_a_full_queue_keeps_the_newest_position_of_each_log_and_counts_what_it_skips() -> None:
    layer = InMemoryChannelLayer()
    here, there = Process(layer, buffer=1000), Process(layer)
    await there.broker.start()
    await there.broker.follow(channel_topic(1))
    # Nothing leaves the queue before the start.
    for seq in range(1, 101):
        here.broker.send(committed(1, seq, b"x" * 200))
    assert overloaded(here)
    here.broker.send(EphemeralPublished([EphemeralFrame(1, b"{}"), EphemeralFrame(1, b"{}")]))
    assert here.broker.skipped == 2
    here.broker.send(ChannelChanged("lab", "small ones still go"))
    assert here.broker.waiting_bytes < 3000
    await here.broker.start()
    await there.receives(committed(1, 100, b""))
    seqs = [row.seq for part in there.received if isinstance(part, Published) for row in part.messages]
    assert seqs == sorted(seqs)
    assert ChannelChanged("lab", "small ones still go") in there.received
    assert not overloaded(here)
    for process in (here, there):
        await process.broker.stop()


@pytest.mark.cluster
@pytest.mark.parametrize("fault", [RedisServer.drop_clients, RedisServer.restart])
async def test_after_a_fault_of_redis_the_broker_joins_again_and_says_so(
    redis_server: RedisServer, fault: Callable[[RedisServer], None]
) -> None:
    here, there = [Process(RedisChannelLayer(hosts=[redis_server.url])) for _ in range(2)]
    for process in (here, there):
        await process.broker.start()
        await process.broker.follow(channel_topic(1))
    here.broker.send(committed(1, 1))
    await there.receives(committed(1, 1))
    await asyncio.to_thread(fault, redis_server)
    await wait_for(lambda: here.reconnects and there.reconnects, "both are back", deadline=60)
    here.broker.send(committed(1, 2))
    await there.receives(committed(1, 2))
    for process in (here, there):
        await process.broker.stop()


@pytest.mark.cluster
async def test_a_redis_that_is_emptied_goes_on_as_before(redis_server: RedisServer) -> None:
    here, there = [Process(RedisChannelLayer(hosts=[redis_server.url])) for _ in range(2)]
    for process in (here, there):
        await process.broker.start()
    await there.broker.follow(channel_topic(1))
    await asyncio.to_thread(redis_server.flush)
    here.broker.send(committed(1, 1))
    await there.receives(committed(1, 1))
    assert (here.reconnects, there.reconnects) == (0, 0)
    for process in (here, there):
        await process.broker.stop()


@pytest.mark.cluster
async def test_a_layer_that_is_away_at_the_start_is_joined_later(backends: Backends) -> None:
    redis = backends.new_redis()
    await asyncio.to_thread(redis.kill)
    here, there = [Process(RedisChannelLayer(hosts=[redis.url])) for _ in range(2)]
    for process in (here, there):
        await process.broker.start()
    await wait_for(lambda: not here.broker.connected and not there.broker.connected, "they know that it is away")
    assert not here.broker.overloaded
    await asyncio.to_thread(redis.start)
    await wait_for(lambda: here.broker.connected and there.broker.connected, "both are connected", deadline=60)
    here.broker.send(ChannelChanged("lab", "bench"))
    await there.receives(ChannelChanged("lab", "bench"))
    for process in (here, there):
        await process.broker.stop()
    backends.release(redis)


def test_ephemeral_messages_that_were_accepted_together_are_sent_together() -> None:
    """Their channels have topics of their own, so the first part may fill the queue."""
    broker = Process(InMemoryChannelLayer(), buffer=1000).broker
    together = EphemeralPublished([EphemeralFrame(number % 3, b"x" * 400) for number in range(6)])
    broker.send(together)
    assert (broker.skipped, broker.overloaded) == (0, True)
    broker.send(together)
    assert broker.skipped == len(together.frames)
