"""A crowd around messages that grow: owners, and for each channel a reader of every kind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness.backends import Storage
from tests.harness.client import new_id
from tests.harness.events import EventListener, frames_into
from tests.harness.growing import Watch, judge
from tests.harness.member import Member
from tests.harness.owner import Owner, RestOwner, Speech, pieces_of
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.traffic import query


class Streams:
    """Speeches over some channels, and everybody who owns or reads them. `judge` is the end of it."""

    def __init__(self, servers: Sequence[BusServer], *, token: str, seed: int) -> None:
        self.servers = list(servers)
        self.token = token
        self.random = random.Random(seed)
        self.speeches: list[Speech] = []
        self.watches: list[Watch] = []
        self._reads: dict[str, set[str]] = {}
        """Which channels, or which one stream, a watch reads, by the watch's name."""
        self.members: list[Member] = []
        self.owners: list[Owner | RestOwner] = []
        self._tasks: list[asyncio.Task[Any]] = []

    def turned(self) -> list[BusServer]:
        """The servers, another one first each time."""
        self.servers.append(self.servers.pop(0))
        return list(self.servers)

    async def member(self, name: str, watch: Watch, *joins: str) -> Member:
        """A client that comes back, whose frames `watch` takes."""
        while True:
            member = Member(self.turned(), watch, client_id=name, room="lab:door")
            try:
                await member.start(*joins)
            except (OSError, InvalidHandshake, ConnectionClosed, AssertionError):
                # Who comes while a server is down tries again, as a person does.
                await asyncio.sleep(0.1)
                continue
            self.members.append(member)
            return member

    async def speech(self, address: str, mode: str, count: int, *, rate: float, rest: bool = False) -> Speech:
        """Somebody who is going to say `count` parts in a channel."""
        speech = Speech(new_id(), address, mode, pieces_of(mode, count, self.random.randrange(1 << 30)), rate=rate)
        self.speeches.append(speech)
        if rest:
            self.owners.append(RestOwner(self.turned()[0], speech, token=self.token, readers=self.watches))
            return speech
        member = await self.member(f"owner-{len(self.owners)}", Watch("owner"))
        self.owners.append(Owner(member, speech, readers=self.watches))
        return speech

    async def reader(self, name: str, *addresses: str) -> Member:
        """A member of channels whose streams it reads from now on."""
        watch = Watch(name)
        self.watches.append(watch)
        self._reads[name] = set(addresses)
        return await self.member(name, watch, *addresses)

    def listen(self, speech: Speech) -> EventListener:
        """A listener of Server-Sent Events of one stream, for as long as that takes."""
        watch = Watch(f"listener-{len(self._reads)}")
        self.watches.append(watch)
        self._reads[watch.name] = {speech.of}
        listener = EventListener(
            self.turned(),
            f"/api/v1/streams/{speech.of}/events?as=parts",
            frames_into(watch.take),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        self.start(listener.run())
        return listener

    def start(self, work: Any) -> asyncio.Task[Any]:
        """Let something go on until `stop`."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.append(task)
        return task

    def parts_read(self) -> int:
        """How many parts all readers have."""
        return sum(growth.have for watch in self.watches for growth in watch.growths.values())

    async def cut(self, member: Member, times: int, within: float) -> None:
        """Cut a reader so many times, spread over some seconds."""
        for _ in range(times):
            await asyncio.sleep(within / times * (0.5 + self.random.random() / 2))
            await (await member.connected()).cut()

    def read_by(self, watch: Watch) -> list[Speech]:
        """The speeches that a reader or listener has to have to the end."""
        reads = self._reads[watch.name]
        return [one for one in self.speeches if one.of in reads or f"{one.room}:{one.channel}" in reads]

    async def all_read(self, *, deadline: float = 30.0) -> None:
        """Wait until every reader has the end of every stream that it reads."""

        def read() -> bool:
            return all(
                (growth := watch.growths.get(speech.of)) is not None and growth.end is not None
                for watch in self.watches
                for speech in self.read_by(watch)
            )

        try:
            await wait_for(read, "everybody has read everything", deadline=deadline)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.problems()])) from None

    def problems(self) -> list[str]:
        """What is wrong with what was read."""
        found = [problem for speech in self.speeches for problem in speech.problems]
        for watch in self.watches:
            found += judge([watch], {speech.of: speech.content for speech in self.read_by(watch)})
        return found

    def judge(self, storage: Storage) -> None:
        """Everybody ended with what the owners said, and nothing of a stream is left but its two messages."""
        found = self.problems()
        assert not found, f"{len(found)} problems:\n" + "\n".join(found[:20])
        assert_nothing_is_open(storage)
        kept = ends_kept(storage)
        for speech in self.speeches:
            (frame,) = kept[speech.of]
            assert frame["parts" if speech.mode == "parts" else "message"] == speech.content
            assert frame["stream"] == {"mode": speech.mode, "state": "complete", "parts": len(speech.pieces)}

    async def stop(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.stop() for member in self.members))


def assert_nothing_is_open(storage: Storage) -> None:
    """No stream is open, and neither parts nor steers of those that ended are kept."""
    assert query(storage, "SELECT uid, state, have FROM bus_stream WHERE state = 'open'") == []
    assert query(storage, "SELECT stream_id, n FROM bus_streampart") == []
    assert query(storage, "SELECT stream_id, uid FROM bus_streamsteer") == []


def ends_kept(storage: Storage) -> dict[str, list[dict[str, Any]]]:
    """Every `stream_end` of the history, by stream."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (text,) in query(storage, "SELECT frame FROM bus_message WHERE type = 'stream_end' ORDER BY id"):
        frame = json.loads(text)
        found.setdefault(frame["of"], []).append(frame)
    return found
