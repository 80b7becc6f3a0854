"""The queue before gates in an event loop: its order, its limit, its bounds, and threads that hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from django.db import connection

from bus import gates
from bus.auth.permissions import Actor
from bus.conf.settings import config
from bus.directory.channels import ChannelRef, ensure
from bus.gates import GateMessage
from bus.log import Entry
from bus.models import Message
from bus.node.threads import DatabaseThreads
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.protocol.names import Address
from bus.publishing.entry import entries, random_uid
from bus.publishing.gated import GateQueue
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

ALICE = Actor(principal="user:7", name="alice", client_id="alice")


class Doors:
    """Gates that wait until a test opens them, by channel."""

    def __init__(self) -> None:
        self.open: dict[str, threading.Event] = {}
        self.reached: list[str] = []

    def gate(self, message: GateMessage, actor: Actor) -> None:
        self.reached.append(f"{message.channel} {message.payload['n']}")
        if message.channel in self.open:
            assert self.open[message.channel].wait(60)

    def other(self, message: GateMessage, actor: Actor) -> None:
        self.reached.append(f"{message.channel} {message.payload['n']}")


class Gated:
    """A queue, and what became of its messages."""

    def __init__(self, refs: dict[str, ChannelRef], **settings: Any) -> None:
        self.refs = refs
        self.done: list[tuple[str, int | None, str]] = []
        self.committed: list[Entry] = []
        self.queue = GateQueue(self.committed.extend, lambda entry: None, msgspec.structs.replace(config(), **settings))

    def send(self, channel: str, n: int) -> None:
        inbound = Inbound(kind=KIND_PUBLISH, type="event", payload=b'{"n":%d}' % n)
        (entry,) = entries(inbound, [self.refs[channel]], "alice", random_uid, owner="alice", done=self._done)
        self.queue.append(entry, inbound, ALICE)

    def _done(self, entry: Entry) -> None:
        code = entry.error.code if entry.error is not None else ""
        self.done.append((entry.context.address.channel, entry.seq, code))

    async def stop(self) -> None:
        await self.queue.drained()
        await asyncio.gather(*map(asyncio.wrap_future, self.queue.end()))


@pytest.fixture
def doors() -> Iterator[Doors]:
    made = Doors()
    with gates.only(("lab:a*", made.gate), ("lab:b", made.other)):
        yield made
        for event in made.open.values():
            event.set()


@pytest.fixture
async def refs(doors: Doors) -> dict[str, ChannelRef]:
    threads = DatabaseThreads(1, "test")

    def make() -> dict[str, ChannelRef]:
        return {name: ensure(Address("lab", name), ALICE)[0] for name in ("a1", "a2", "a3", "b")}

    made = await asyncio.get_running_loop().run_in_executor(threads, make)
    await asyncio.gather(*map(asyncio.wrap_future, threads.end()))
    return made


async def test_a_channel_waits_for_its_gate_and_the_others_do_not(doors: Doors, refs: dict[str, ChannelRef]) -> None:
    doors.open["a1"] = threading.Event()
    gated = Gated(refs, gate_timeout=60.0)
    for n in range(3):
        for channel in ("a1", "a2", "b"):
            gated.send(channel, n)
    await wait_for(lambda: len(gated.done) == 6, "the other channels are through")
    assert [seq for channel, seq, _ in gated.done if channel == "a2"] == [1, 2, 3]
    assert [line for line in doors.reached if line.startswith("a1")] == ["a1 0"]
    doors.open["a1"].set()
    await gated.stop()
    assert [line for line in doors.reached if line.startswith("a1")] == ["a1 0", "a1 1", "a1 2"]
    assert {code for _, _, code in gated.done} == {""}
    assert len(gated.committed) == len(gated.done) == 9


async def test_a_gate_that_hangs_in_many_channels_leaves_threads_for_others(
    doors: Doors, refs: dict[str, ChannelRef]
) -> None:
    for channel in ("a1", "a2", "a3"):
        doors.open[channel] = threading.Event()
    gated = Gated(refs, gate_timeout=0.3, gate_threads=2)
    for channel in ("a1", "a2", "a3"):
        gated.send(channel, 0)
    gated.send("b", 0)
    await gated.queue.drained()
    assert sorted(gated.done)[:3] == [(channel, None, ErrorCode.UNAVAILABLE) for channel in ("a1", "a2", "a3")]
    assert doors.reached.count("a2 0") + doors.reached.count("a3 0") == 0, "one gate has at most half of the threads"
    # Its thread is still away, and another one took its place.
    await wait_for(lambda: _sends(gated, "b"), "other gates go on")
    for event in doors.open.values():
        event.set()
    await wait_for(lambda: _sends(gated, "a1"), "the channel goes on once its gate is back")
    await gated.stop()


def _sends(gated: Gated, channel: str) -> bool:
    """Whether a message of a channel was kept. Sends another one if the last was answered without."""
    mine = [line for line in gated.done if line[0] == channel]
    if any(seq is not None for _, seq, _ in mine):
        return True
    if not len(gated.queue):
        gated.send(channel, 1)
    return False


async def test_more_than_the_queue_holds_is_busy(doors: Doors, refs: dict[str, ChannelRef]) -> None:
    doors.open["a1"] = threading.Event()
    gated = Gated(refs, gate_timeout=60.0, queue_limit=5)
    for n in range(6):
        gated.send("a1", n)
    with pytest.raises(BusError) as caught:
        gated.send("a1", 6)
    assert caught.value.code == ErrorCode.BUSY
    doors.open["a1"].set()
    await gated.stop()
    assert [seq for _, seq, _ in gated.done] == [1, 2, 3, 4, 5, 6]


async def test_what_was_withdrawn_is_not_kept_when_its_gate_comes_back(
    doors: Doors, refs: dict[str, ChannelRef]
) -> None:
    doors.open["a1"] = threading.Event()
    gated = Gated(refs, gate_timeout=0.3)
    gated.send("a1", 0)
    await gated.queue.drained()
    assert gated.done == [("a1", None, ErrorCode.UNAVAILABLE)]
    doors.open["a1"].set()
    await wait_for(lambda: len(gated.committed) == 1, "the thread is back")
    assert gated.committed[0].error is not None
    await gated.stop()

    def kept() -> int:
        try:
            return Message.objects.count()
        finally:
            connection.close()

    assert await asyncio.to_thread(kept) == 0
