"""A crowd of members and publishers, all of them recorded, and what the database keeps of their messages."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tests.harness.backends import Storage
from tests.harness.member import Member
from tests.harness.record import Row
from tests.harness.recorder import Recorder
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for


class Crowd:
    """Members and publishers over one or more servers, all of them recorded."""

    def __init__(self, servers: Sequence[BusServer], *, seed: int = 1) -> None:
        self.servers = list(servers)
        self.recorder = Recorder()
        self.members: list[Member] = []
        self.random = random.Random(seed)
        self.acked = 0
        self._stopping = asyncio.Event()

    async def join(self, count: int, *addresses: str, name: str = "member", **registration: Any) -> list[Member]:
        """Connect `count` members, spread over the servers; the first address is their initial channel."""
        room, _, channel = addresses[0].partition(":")

        async def one(number: int) -> Member:
            turned = self.servers[number % len(self.servers) :] + self.servers[: number % len(self.servers)]
            member = Member(
                turned, self.recorder, client_id=f"{name}-{number}", room=room, channel=channel, **registration
            )
            return await member.start(*addresses[1:])

        made: list[Member] = []
        for start in range(0, count, 50):
            made += await asyncio.gather(*(one(number) for number in range(start, min(start + 50, count))))
        self.members += made
        return made

    @contextlib.asynccontextmanager
    async def publishing(self, publishers: Sequence[Member], address: str, *, rate: float) -> AsyncIterator[None]:
        """While in here, each of `publishers` publishes acked messages, all together about `rate` a second."""
        room, _, channel = address.partition(":")
        pause = len(publishers) / rate
        self._stopping.clear()

        async def one(member: Member) -> None:
            await asyncio.sleep(self.random.random() * pause)
            while not self._stopping.is_set():
                await member.publish(f"from {member.client.client_id}", room=room, channel=channel)
                self.acked += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause * (0.5 + self.random.random()))

        async with asyncio.TaskGroup() as group:
            for member in publishers:
                group.create_task(one(member))
            try:
                yield
            finally:
                self._stopping.set()

    async def until_acked(self, more: int, *, deadline: float = 30.0) -> None:
        """Wait until so many further messages were acknowledged."""
        target = self.acked + more
        await wait_for(lambda: self.acked >= target, f"{more} more acks", deadline=deadline)

    async def judge(
        self, storage: Storage, *, deadline: float = 10.0, pruned: Sequence[str] = (), complete: bool = True
    ) -> None:
        """Every promise of `recorder` holds within `deadline` seconds, compared with what the database keeps."""

        async def history() -> dict[str, list[Row]]:
            kept = await asyncio.to_thread(read_database, storage)
            return {address: kept.get(address, []) for address in self.recorder.addresses()}

        if complete:
            await self.recorder.settle(history, deadline=deadline, pruned=pruned)
        else:
            self.recorder.assert_ok(await history(), pruned=pruned, complete=False)

    async def stop(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(member.stop() for member in self.members))


_ROWS = (
    "SELECT r.name, c.name, m.seq, m.uid, m.sender FROM bus_message m"
    " JOIN bus_channel c ON c.id = m.channel_id JOIN bus_room r ON r.id = c.room_id ORDER BY m.channel_id, m.seq"
)


def query(storage: Storage, statement: str) -> list[tuple[Any, ...]]:
    """Ask the database, or change it, behind the servers' backs."""
    return storage.execute(statement)


def read_database(storage: Storage) -> dict[str, list[Row]]:
    """Every log as it is kept: address -> rows, oldest first."""
    logs: dict[str, list[Row]] = {}
    for room, channel, seq, uid, sender in query(storage, _ROWS):
        logs.setdefault(f"{room}:{channel}", []).append(Row(seq, uid, sender))
    return logs
