"""Topics: whoever follows one receives its messages, and nobody else does. Over one host and over two, and after faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.notify.layer import links_over
from bus.notify.layer_broker import LayerBroker, line_number
from bus.notify.messages import EphemeralFrame, EphemeralPublished, Notification
from bus.notify.topics import channel_topic
from tests.harness.backends import Backends
from tests.harness.redis import RedisServer
from tests.harness.waiting import wait_for

PROCESSES, CHANNELS = 3, 4

MakeLayer = Callable[[], BaseChannelLayer]

#: What happens: a process takes up a channel, or drops it, or sends to it.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["follow", "drop", "send", "send"]), st.integers(0, PROCESSES - 1), st.integers(1, CHANNELS)
    ),
    max_size=40,
)


class Member:
    """A process: what it follows, what it has to receive, and what it received."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self.broker = LayerBroker(links_over(layer), self.receive, buffer=1 << 20)
        self.broker.on_reconnect = self.reconnected
        self.followed: set[int] = set()
        self.wanted: list[tuple[int, bytes]] = []
        self.received: list[tuple[int, bytes]] = []
        self.reconnects = 0

    def receive(self, notification: Notification) -> None:
        """Note the frames that come."""
        assert isinstance(notification, EphemeralPublished)
        self.received += [(channel_id, frame) for channel_id, frame, _ in notification.frames]

    def reconnected(self) -> None:
        """Count the faults that are over."""
        self.reconnects += 1

    async def follow(self, channel_id: int) -> None:
        """Take up a channel, as a join does."""
        await self.broker.follow(channel_topic(channel_id))
        self.followed.add(channel_id)

    def drop(self, channel_id: int) -> None:
        """Drop a channel."""
        self.broker.unfollow(channel_topic(channel_id))
        self.followed.discard(channel_id)

    def send(self, channel_id: int, text: str) -> None:
        """Send an ephemeral message, which is in no log."""
        self.broker.send(EphemeralPublished([EphemeralFrame(channel_id, text.encode())]))


@asynccontextmanager
async def members(make_layer: MakeLayer) -> AsyncIterator[list[Member]]:
    """Processes that have started."""
    made = [Member(make_layer()) for _ in range(PROCESSES)]
    for member in made:
        await member.broker.start()
    try:
        yield made
    finally:
        for member in made:
            await member.broker.stop()


async def happens(made: list[Member], steps: list[tuple[str, int, int]]) -> None:
    """Carry out the steps, and note who has to receive what."""
    for number, (what, place, channel_id) in enumerate(steps):
        member = made[place]
        if what == "follow":
            await member.follow(channel_id)
        elif what == "drop":
            member.drop(channel_id)
            # A topic is left after those that are taken up at the same time, and before the next ones.
            for turn in range(2):
                await member.broker.follow(f"barrier.{number}.{turn}")
        else:
            member.send(channel_id, str(number))
            for other in made:
                if other is not member and channel_id in other.followed:
                    other.wanted.append((channel_id, str(number).encode()))
            # What is sent goes out before its receivers drop the channel.
            await wait_for(lambda sender=member: not sender.broker.waiting_bytes, "it is sent")  # type: ignore[misc]
            await everything_came(made)


async def everything_came(made: list[Member]) -> None:
    """Wait for everything that has to come."""
    for member in made:
        await wait_for(lambda one=member: len(one.received) >= len(one.wanted), "all have come")  # type: ignore[misc]


async def judged(made: list[Member]) -> None:
    """A last message to each shows that nothing else comes before it; then compare."""
    await everything_came(made)
    for member in made:
        for channel_id in range(1, CHANNELS + 1):
            await member.follow(channel_id)
    for channel_id in range(1, CHANNELS + 1):
        made[0].send(channel_id, "last")
        for member in made[1:]:
            member.wanted.append((channel_id, b"last"))
    await everything_came(made)
    for member in made:
        for channel_id in range(1, CHANNELS + 1):
            wanted = [frame for of, frame in member.wanted if of == channel_id]
            assert [frame for of, frame in member.received if of == channel_id] == wanted


def run(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story in a loop of its own, as hypothesis needs it."""

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(bounded())


@pytest.mark.pure
@given(steps=STEPS)
@settings(max_examples=25, deadline=None)
def test_who_follows_a_channel_receives_its_messages_and_nobody_else_does(steps: list[tuple[str, int, int]]) -> None:
    shared = InMemoryChannelLayer()

    async def story() -> None:
        async with members(lambda: shared) as made:
            await happens(made, steps)
            await judged(made)

    run(story)


@pytest.mark.cluster
@given(steps=STEPS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_over_redis(redis_server: RedisServer, steps: list[tuple[str, int, int]]) -> None:
    async def story() -> None:
        async with members(lambda: RedisChannelLayer(hosts=[redis_server.url])) as made:
            await happens(made, steps)
            await judged(made)

    run(story)


def of_host(number: int, hosts: int) -> int:
    """A channel whose topic is on this host."""
    return next(channel for channel in range(1, 999) if line_number(channel_topic(channel), hosts) == number)


@pytest.mark.cluster
async def test_topics_are_spread_over_the_hosts_and_one_that_is_away_holds_up_no_other(backends: Backends) -> None:
    one, two = [await asyncio.to_thread(backends.new_redis) for _ in range(2)]
    first, second = of_host(0, 2), of_host(1, 2)
    try:
        async with members(lambda: RedisChannelLayer(hosts=[one.url, two.url])) as made:
            here, there, _ = made
            for channel_id in (first, second):
                await there.follow(channel_id)
                here.send(channel_id, "both there")
            await wait_for(lambda: len(there.received) == 2, "both have come")
            await asyncio.to_thread(two.kill)
            await wait_for(lambda: not here.broker.connected and not there.broker.connected, "both know it")
            here.send(first, "one there")
            await wait_for(lambda: (first, b"one there") in there.received, "the other host goes on")
            await asyncio.to_thread(two.start)
            await wait_for(lambda: here.broker.connected and there.broker.connected, "both are back", deadline=60)
            assert there.reconnects >= 1
            here.send(second, "both again")
            await wait_for(lambda: (second, b"both again") in there.received, "messages cross again")
    finally:
        for redis in (one, two):
            await asyncio.to_thread(backends.release, redis)


@pytest.mark.cluster
async def test_a_channel_that_is_taken_up_while_redis_is_away_is_followed_once_it_is_back(backends: Backends) -> None:
    redis = await asyncio.to_thread(backends.new_redis)
    try:
        async with members(lambda: RedisChannelLayer(hosts=[redis.url])) as made:
            here, there, _ = made
            await there.follow(1)
            await asyncio.to_thread(redis.kill)
            await wait_for(lambda: not there.broker.connected, "it is away")
            await there.follow(2)  # A join does not wait for Redis.
            there.drop(1)
            await asyncio.to_thread(redis.start)
            await wait_for(lambda: here.broker.connected and there.broker.connected, "both are back", deadline=60)
            for channel_id in (1, 2):
                here.send(channel_id, "after")
            await wait_for(lambda: there.received, "it has come")
            assert there.received == [(2, b"after")]
    finally:
        await asyncio.to_thread(backends.release, redis)
