"""P24, P26: owners die, freeze, come back and are replaced; readers end with one text, and nothing stays open."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.client import new_id
from tests.harness.growing import Watch
from tests.harness.member import Member
from tests.harness.owner import OwnerProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.growing import assert_nothing_is_open, ends_kept

CHANNELS = 2
GRACE = 2.0


class Relay:
    """Owner processes that take the same streams over from one another, with one reader for each server."""

    def __init__(self, servers: list[BusServer], backends: Backends, token: str, streams: int) -> None:
        self.servers = servers
        self.backends = backends
        self.token = token
        # Every second one begins anew with each owner.
        self.streams: list[dict[str, Any]] = [
            {"of": new_id(), "room": "lab", "channel": f"talk-{number % CHANNELS}", "keep": number % 2 == 0}
            for number in range(streams)
        ]
        self.readers: list[Member] = []
        self.watches: list[Watch] = []
        self.owners: list[OwnerProcess] = []

    async def read(self) -> None:
        """Let somebody read, on every server."""
        for number, server in enumerate(self.servers):
            watch = Watch(f"reader-{number}")
            member = Member([server], watch, client_id=watch.name, room="lab:door")
            self.watches.append(watch)
            self.readers.append(await member.start(*(f"lab:talk-{n}" for n in range(CHANNELS))))

    async def owner(self, *, opens: bool = False) -> OwnerProcess:
        """Another owner process, registered and waiting; its name says its turn."""
        name = f"g{len(self.owners)}"
        server = self.servers[len(self.owners) % len(self.servers)]
        owner = OwnerProcess(self.backends.new_path("owner"), name, server.url, self.token, self.streams, opens=opens)
        self.owners.append(owner)
        await asyncio.to_thread(owner.start)
        return owner

    async def spoken(self, owner: OwnerProcess, parts: int) -> None:
        """Wait until the first reader has so many parts of this owner in each stream."""

        def enough() -> bool:
            growths = [self.watches[0].growths.get(stream["of"]) for stream in self.streams]
            return all(growth and growth.content.count(f"{owner.name}.") >= parts for growth in growths)

        await wait_for(enough, f"{parts} parts of {owner.name} in each stream", deadline=60)

    async def all_ended(self, state: str) -> None:
        """Wait until all readers have the end of every stream, and it has this state."""

        def ended() -> bool:
            return all(
                (growth := watch.growths.get(stream["of"])) is not None and growth.end is not None
                for watch in self.watches
                for stream in self.streams
            )

        await wait_for(ended, "every stream has ended", deadline=60)
        for watch in self.watches:
            assert [p for growth in watch.growths.values() for p in growth.problems] == [], watch.name
            assert {growth.state for growth in watch.growths.values()} == {state}

    def texts(self) -> dict[str, str]:
        """The text of each stream, which is the same for all readers."""
        found = {
            stream["of"]: {watch.growths[stream["of"]].content for watch in self.watches} for stream in self.streams
        }
        assert all(len(texts) == 1 for texts in found.values())
        return {of: texts.pop() for of, texts in found.items()}

    async def stop(self) -> None:
        """End the owners and readers."""
        for owner in self.owners:
            await asyncio.to_thread(owner.process.kill)
        await asyncio.gather(*(reader.stop() for reader in self.readers))


def turns(text: str) -> list[tuple[int, int]]:
    """(turn, number of the part) of each part of a text."""
    assert re.fullmatch(r"(g\d+\.\d+ )*", text), text[:200]
    return [(int(turn), int(number)) for turn, number in re.findall(r"g(\d+)\.(\d+)", text)]


async def relay_of(
    start_server: StartServer, storage: Storage, backends: Backends, streams: int, env: dict[str, str]
) -> Relay:
    """A relay over one process, or over two in a cluster."""
    count = 1 if storage.redis is None else 2
    servers = list(await asyncio.gather(*(asyncio.to_thread(start_server, env=env) for _ in range(count))))
    token = await asyncio.to_thread(servers[0].create_token, "agent")
    relay = Relay(servers, backends, token, streams)
    await relay.read()
    return relay


async def take_over(relay: Relay, generations: int, seed: int) -> None:
    """Let each generation adopt all streams while the one before is frozen or killed, and wake the frozen ones later."""
    rng = random.Random(seed)
    owner = await relay.owner(opens=True)
    frozen: list[OwnerProcess] = []
    for turn in range(1, generations + 1):
        heir = await relay.owner()
        await relay.spoken(owner, 1 + rng.randrange(5))
        if turn % 3 == 0:
            await asyncio.to_thread(owner.process.kill)
        else:
            await asyncio.to_thread(owner.process.freeze)
            frozen.append(owner)
        heir.adopt()
        if frozen and rng.random() < 0.7:
            # The old owner may wake before its heir has said anything.
            await asyncio.to_thread(frozen.pop().process.thaw)
        owner = heir
    await relay.spoken(owner, 3)
    for sleeper in frozen:
        await asyncio.to_thread(sleeper.process.thaw)
    for former in relay.owners[:-1]:
        if former.process.alive:
            await wait_for(lambda former=former: len(former.events("done")) == 1, f"{former.name} is done", deadline=60)  # type: ignore[misc]
    owner.end()
    await relay.all_ended("complete")


def judge_turns(relay: Relay) -> None:
    """Every owner that was replaced lost all streams, and no part of it came after one of its heirs."""
    all_of = sorted(stream["of"] for stream in relay.streams)
    for former in relay.owners[:-1]:
        assert former.events("failed") == [], former.name
        assert former.events("ended") == [], former.name
        if former.process.alive:
            assert sorted(lost["of"] for lost in former.events("lost")) == all_of, former.name
    last = len(relay.owners) - 1
    for stream in relay.streams:
        said = turns(relay.texts()[stream["of"]])
        if stream["keep"]:
            assert [number for _, number in said] == list(range(1, len(said) + 1))
            assert [turn for turn, _ in said] == sorted(turn for turn, _ in said)
            assert said[-1][0] == last
        else:
            assert said == [(last, number) for number in range(1, len(said) + 1)]


async def test_who_is_adopted_while_frozen_or_dead_writes_no_more(
    start_server: StartServer, storage: Storage, backends: Backends
) -> None:
    relay = await relay_of(start_server, storage, backends, 10, {})
    try:
        await take_over(relay, generations=5, seed=7)
        judge_turns(relay)
        assert_nothing_is_open(storage)
    finally:
        await relay.stop()


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_fifty_generations_of_owners(start_server: StartServer, storage: Storage, backends: Backends) -> None:
    relay = await relay_of(start_server, storage, backends, 10, {})
    try:
        await take_over(relay, generations=50, seed=50)
        judge_turns(relay)
        assert_nothing_is_open(storage)
    finally:
        await relay.stop()


async def owner_dies(relay: Relay, how: Callable[[OwnerProcess], Any], storage: Storage) -> None:
    """All streams of an owner end as aborted, with everything that anybody has read."""
    owner = await relay.owner(opens=True)
    await relay.spoken(owner, 5)
    await asyncio.to_thread(how, owner)
    await relay.all_ended("aborted")
    kept = ends_kept(storage)
    for of, text in relay.texts().items():
        (end,) = kept[of]
        assert end["message"] == text
        assert [number for _, number in turns(text)] == list(range(1, end["stream"]["parts"] + 1))
    assert_nothing_is_open(storage)


async def test_what_a_killed_owner_leaves_is_ended_as_aborted(
    start_server: StartServer, storage: Storage, backends: Backends
) -> None:
    relay = await relay_of(start_server, storage, backends, 10, {"ARQONBUS_STREAM_GRACE": f"{GRACE:g}"})
    try:
        await owner_dies(relay, lambda owner: owner.process.kill(), storage)
    finally:
        await relay.stop()


async def test_where_owner_and_server_die_together_nothing_stays_open(
    start_server: StartServer, storage: Storage, backends: Backends
) -> None:
    relay = await relay_of(start_server, storage, backends, 10, {"ARQONBUS_STREAM_GRACE": f"{GRACE:g}"})

    def both(owner: OwnerProcess) -> None:
        owner.process.kill()
        relay.servers[0].restart()

    try:
        await owner_dies(relay, both, storage)
    finally:
        await relay.stop()


@pytest.mark.cluster
async def test_what_waits_in_a_frozen_process_is_refused_once_others_ended_its_streams(
    start_server: StartServer, storage: Storage, backends: Backends
) -> None:
    """A process stops for a while with owners on it: the other one ends their streams, and nothing is ended twice."""
    env = {
        "ARQONBUS_STREAM_GRACE": f"{GRACE:g}",
        "ARQONBUS_NODE_HEARTBEAT": "0.5",
        "ARQONBUS_NODE_TIMEOUT": "3",
        "ARQONBUS_RETRY_SPREAD": "0.2",
    }
    relay = await relay_of(start_server, storage, backends, 4, env)
    try:
        owner = await relay.owner(opens=True)
        await relay.spoken(owner, 3)
        await asyncio.to_thread(relay.servers[0].freeze)
        near = relay.watches[1]
        ended = [stream["of"] for stream in relay.streams]
        await wait_for(
            lambda: all(near.growths[of].end is not None for of in ended), "the other process ends them", deadline=60
        )
        await asyncio.to_thread(relay.servers[0].thaw)
        # Its readers come back by themselves, with its owner's last parts unheard.
        await relay.all_ended("aborted")
        assert {of: len(ends) for of, ends in ends_kept(storage).items()} == dict.fromkeys(ended, 1)
        assert_nothing_is_open(storage)
    finally:
        await asyncio.to_thread(relay.servers[0].thaw)
        await relay.stop()
