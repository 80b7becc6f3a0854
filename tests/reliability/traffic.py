"""Clients that behave as a careful application's: they come back with their positions, and repeat what was not answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.record import Row
from tests.harness.recorder import Recorder
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

#: Answers after which a careful publisher sends the same message again.
AGAIN = frozenset({"UNAVAILABLE", "OUTCOME_UNKNOWN", "BUSY", "RESTARTING", "RATE_LIMITED"})


class Member:
    """A client that comes back, to any of its servers, whenever its connection ends."""

    def __init__(self, servers: Sequence[BusServer], recorder: Recorder | None, **registration: Any) -> None:
        self.servers = list(servers)
        self.client: WireClient
        self.connections = 0
        self.codes: list[int] = []
        """How each connection ended."""
        self._recorder = recorder
        self._registration = registration
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, *joins: str) -> Member:
        """Connect to the first server, join the channels given as `room:channel`, and stay from now on."""
        self.client = await WireClient.connect(self.servers[0].url, recorder=self._recorder, **self._registration)
        for address in joins:
            room, _, channel = address.partition(":")
            await self.client.join(room, channel)
        self.connections = 1
        self._up.set()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def _keep(self) -> None:
        turn = 0
        while True:
            self.codes.append(await self.client.wait_closed(timeout=3600))
            self._up.clear()
            while True:
                turn += 1
                url = self.servers[turn % len(self.servers)].url
                try:
                    self.client = await self.client.reconnect(url=url, timeout=20)
                    break
                except (OSError, InvalidHandshake, AssertionError, ConnectionClosed):
                    await asyncio.sleep(0.1)
            self.connections += 1
            self._up.set()

    async def connected(self) -> WireClient:
        """The living connection, once there is one."""
        await self._up.wait()
        return self.client

    async def publish(self, message: str, **fields: Any) -> dict[str, Any]:
        """Publish one message, again and again under the same id until it is acknowledged; the ack."""
        message_id = new_id()
        while True:
            client = await self.connected()
            try:
                return await client.publish(message, ack=True, message_id=message_id, timeout=10, **fields)
            except WireError as error:
                if error.code not in AGAIN:
                    raise
                await asyncio.sleep(0.1)
            except (AssertionError, ConnectionClosed):
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Come back no more, and close."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self.client.close()


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
    path = storage.sqlite_path
    if path is None:
        assert storage.postgres is not None
        assert storage.database is not None
        return storage.postgres.execute(statement, storage.database)
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        return connection.execute(statement).fetchall()


def read_database(storage: Storage) -> dict[str, list[Row]]:
    """Every log as it is kept: address -> rows, oldest first."""
    logs: dict[str, list[Row]] = {}
    for room, channel, seq, uid, sender in query(storage, _ROWS):
        logs.setdefault(f"{room}:{channel}", []).append(Row(seq, uid, sender))
    return logs
