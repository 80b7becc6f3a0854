"""In the manner of Jepsen: a seeded random history with faults mixed in, judged by the recorder."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.harness.member import Member
from tests.harness.server import BusServer
from tests.reliability.traffic import Crowd

CHANNELS = ("lab:bench", "lab:notes", "den:hall")


class History:
    """Random work of clients and random faults, from one seed."""

    def __init__(self, servers: list[BusServer], storage: Storage, seed: int, *, longer: bool = False) -> None:
        self.servers = servers
        self.storage = storage
        self.crowd = Crowd(servers, seed=seed)
        self.random = random.Random(seed)
        self.faults: list[Callable[[], Awaitable[None]]] = [self.kill, self.terminate, self.cut, self.freeze_client]
        if storage.redis is not None:
            self.faults += [self.redis_away, self.redis_flushed, self.redis_frozen]
        if storage.postgres is not None:
            self.faults += [self.database_cut]
        if longer:
            self.faults += [self.fill_a_reader]
            if storage.postgres is not None:
                self.faults += [self.database_away]

    # Work

    async def work(self, member: Member, until: float) -> None:
        """Publish to a channel, a whole room or somebody; join and leave; at most a few things a second."""
        number = 0
        while time.monotonic() < until:
            number += 1
            kind = self.random.random()
            room, _, channel = self.random.choice(CHANNELS).partition(":")
            text = f"{number}"
            if kind < 0.6:
                await member.publish(text, room=room, channel=channel)
            elif kind < 0.75:
                await member.publish(text, room=room)
            else:
                target = self.random.choice(self.crowd.members).client.client_id
                await member.publish(text, type="private", to=[target])
            await asyncio.sleep(self.random.random())

    async def wander(self, member: Member, until: float) -> None:
        """Join and leave channels."""
        while time.monotonic() < until:
            client = await member.connected()
            room, _, channel = self.random.choice(CHANNELS[1:]).partition(":")
            try:
                if f"{room}:{channel}" in client.positions:
                    await client.leave(room, channel)
                else:
                    await client.join(room, channel)
            except (AssertionError, OSError):
                pass  # Its connection broke, or the store was away; the recorder judges what came of it.
            except Exception as problem:  # noqa: BLE001 - websockets' closing errors
                self.crowd.recorder.note(f"wanderer: {problem!r}")
            await asyncio.sleep(self.random.random())

    # Faults

    async def kill(self) -> None:
        await asyncio.to_thread(self.random.choice(self.servers).restart)

    async def terminate(self) -> None:
        await asyncio.to_thread(self.random.choice(self.servers).restart, graceful=True)

    async def cut(self) -> None:
        for member in self.random.sample(self.crowd.members, 4):
            await member.client.cut()

    async def freeze_client(self) -> None:
        client = self.random.choice(self.crowd.members).client
        client.pause_reading()
        await asyncio.sleep(1)
        client.resume_reading()

    async def redis_away(self) -> None:
        assert self.storage.redis is not None
        await asyncio.to_thread(self.storage.redis.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.storage.redis.start)

    async def redis_flushed(self) -> None:
        assert self.storage.redis is not None
        await asyncio.to_thread(self.storage.redis.flush)

    async def redis_frozen(self) -> None:
        assert self.storage.redis is not None
        await asyncio.to_thread(self.storage.redis.freeze)
        await asyncio.sleep(1)
        await asyncio.to_thread(self.storage.redis.thaw)

    async def database_cut(self) -> None:
        assert self.storage.postgres is not None
        assert self.storage.database is not None
        await asyncio.to_thread(self.storage.postgres.cut_connections, self.storage.database)

    async def database_away(self) -> None:
        assert self.storage.postgres is not None
        await asyncio.to_thread(self.storage.postgres.stop)
        await asyncio.sleep(3)
        await asyncio.to_thread(self.storage.postgres.start)

    async def fill_a_reader(self) -> None:
        """One stops reading until it is thrown out for it, and has to come back for what it missed."""
        reader, writer = self.random.sample(self.crowd.members, 2)
        client = reader.client
        client.pause_reading()
        room, _, channel = CHANNELS[0].partition(":")
        for _ in range(100):
            await writer.publish("x" * 60_000, room=room, channel=channel)
        client.resume_reading()

    # All of it

    async def run(self, seconds: float) -> None:
        try:
            await self.crowd.join(6, *CHANNELS, name="reader")
            workers = await self.crowd.join(6, *CHANNELS, name="worker")
            wanderers = await self.crowd.join(2, CHANNELS[0], name="wanderer")
            until = time.monotonic() + seconds
            faults = self.random.sample(self.faults, len(self.faults))
            async with asyncio.TaskGroup() as group:
                for member in workers:
                    group.create_task(self.work(member, until))
                for member in wanderers:
                    group.create_task(self.wander(member, until))
                while time.monotonic() < until:
                    await asyncio.sleep(0.3 + self.random.random())
                    if not faults:
                        faults = self.random.sample(self.faults, len(self.faults))
                    fault = faults.pop()
                    self.crowd.recorder.note(fault.__name__)
                    await fault()
            await self.crowd.judge(self.storage, deadline=10)
            await self.presence_is_right()
        finally:
            await self.crowd.stop()

    async def presence_is_right(self) -> None:
        """Promise 8, for every channel."""
        async with await WireClient.connect(self.servers[0].url) as reader:
            deadline = time.monotonic() + 20
            while True:
                reported = {}
                for address in CHANNELS:
                    room, _, channel = address.partition(":")
                    info = await reader.request("channel_info", room=room, channel=channel)
                    reported[address] = [row["client_id"] for row in info["participants"]]
                wrong = self.crowd.recorder.check_presence(reported)
                if not wrong:
                    return
                assert time.monotonic() < deadline, "\n".join(map(str, wrong))
                await asyncio.sleep(0.2)


async def servers_of(start_server: StartServer, storage: Storage) -> list[BusServer]:
    """Two processes in a cluster, else one."""
    count = 1 if storage.redis is None else 2
    return list(
        await asyncio.gather(
            *(
                asyncio.to_thread(start_server, storage=storage, env={"ARQONBUS_RETRY_SPREAD": "0.5"})
                for _ in range(count)
            )
        )
    )


async def test_ten_seconds_of_random_work_and_faults_break_no_promise(
    start_server: StartServer, storage: Storage
) -> None:
    history = History(await servers_of(start_server, storage), storage, seed=20261124)
    await history.run(10)


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_minute_of_random_work_and_faults_breaks_no_promise(
    start_server: StartServer, own_postgres_storage: Storage
) -> None:
    storage = own_postgres_storage
    seed = int(os.environ.get("ARQONBUS_CHAOS_SEED", time.time_ns() % 1_000_000))
    print(f"ARQONBUS_CHAOS_SEED={seed}")
    history = History(await servers_of(start_server, storage), storage, seed, longer=True)
    await history.run(60)
    print(history.crowd.recorder.summary())
