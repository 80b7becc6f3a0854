"""Subscriptions of one channel that open, close, are cancelled and reconnect across one another, over a line that delays.

Whatever crossed: in the end the server has the client as a member exactly when a subscription is open, and each open one saw
every message since it began, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
from dataclasses import dataclass, field

import pytest

import arqonbus
from arqonbus import Backoff, Message, Subscription
from tests.clients_python.conftest import Connect
from tests.harness.line import Line, delayed_line
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0
STEPS = ("open", "open from the start", "close", "cancel", "cut")

pytestmark = pytest.mark.embedded


@dataclass(eq=False)
class Reader:
    """One subscription with what it has read."""

    subscription: Subscription
    opening: asyncio.Task[Subscription]
    seen: list[Message] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None
    began: int = 0

    async def open(self) -> None:
        """Note where it begins, and read."""
        await self.opening
        assert self.subscription.position is not None
        self.began = self.subscription.position.seq
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self.subscription:
            self.seen.append(message)


class Scene:
    """One client whose subscriptions of one channel cross, and somebody who talks there."""

    def __init__(self, bus: arqonbus.Bus, line: Line, watcher: arqonbus.Bus, seed: str) -> None:
        self.bus = bus
        self.line = line
        self.watcher = watcher
        self.random = random.Random(seed)
        self.address = f"room-{secrets.token_hex(6)}:talk"
        self.readers: list[Reader] = []
        self.closing: list[asyncio.Task[None]] = []
        self.published = 0

    async def carry_out(self, steps: tuple[str, ...]) -> None:
        """Do one after the other without waiting for its end, then look."""
        await self._talk()
        for step in steps:
            self._do(step)
            await self._talk() if self.random.random() < 0.5 else await asyncio.sleep(0.03 * self.random.random())
        await self._look(" then ".join(steps))

    async def _talk(self) -> None:
        self.published = (await self.watcher.publish(self.address, {"n": self.published})).seq or 0

    def _do(self, step: str) -> None:
        if step.startswith("open"):
            subscription = self.bus.subscribe(self.address, since=0 if "start" in step else None)
            self.readers.append(Reader(subscription, asyncio.ensure_future(subscription.open())))
        elif step == "cut":
            self.line.cut()
        elif self.readers:
            reader = self.random.choice(self.readers)
            if step == "close":
                self.readers.remove(reader)
                self.closing.append(asyncio.ensure_future(reader.subscription.close()))
            elif reader.opening.cancel():
                self.readers.remove(reader)

    async def _look(self, what: str) -> None:
        await asyncio.gather(*(reader.open() for reader in self.readers))
        await asyncio.gather(*self.closing)
        memberships = self.bus._memberships
        await wait_for(
            lambda: not memberships._opening and (self.address in memberships.members) == bool(self.readers),
            f"nothing is on its way, after {what}",
            deadline=WAIT,
        )

        async def settled() -> bool:
            # The room may not be there: nobody ever got as far as joining.
            with contextlib.suppress(arqonbus.errors.NotFound):
                members = (await self.watcher.channel_info(self.address))["participants"]
                return [m["client_id"] for m in members] == ([self.bus.client_id] if self.readers else [])
            return not self.readers

        await wait_for(settled, f"a member if and only if it listens, after {what}", deadline=WAIT)
        await self._talk()
        await wait_for(
            lambda: all(r.seen and r.seen[-1].seq == self.published for r in self.readers),
            f"the last message reaches {len(self.readers)}, after {what}",
            deadline=WAIT,
        )
        for reader in self.readers:
            assert [m.seq for m in reader.seen] == list(range(reader.began + 1, self.published + 1)), what
            assert reader.subscription.gaps == 0, what
            assert reader.reading is not None
            reader.reading.cancel()


async def play(server: BusServer, client: Connect, plays: list[tuple[str, ...]], seed: str) -> None:
    """All of them at once, each with a client and a line of its own."""
    watcher = await client()

    async def one(number: int, steps: tuple[str, ...]) -> None:
        async with delayed_line(server.host, server.port, number) as line:
            quick = Backoff(first=0.02, most=0.1)
            async with arqonbus.connect(line.url, backoff=quick) as bus:
                await Scene(bus, line, watcher, f"{seed}-{number}").carry_out(steps)

    async with asyncio.TaskGroup() as group:
        for number, steps in enumerate(plays):
            group.create_task(one(number, steps))


@pytest.mark.parametrize("before", [(), ("open",)], ids=["alone", "beside another"])
async def test_any_two_that_cross(shared_server: BusServer, client: Connect, before: tuple[str, ...]) -> None:
    pairs = [(*before, *pair) for pair in itertools.product(STEPS, repeat=2)]
    await play(shared_server, client, pairs, "pairs")


@pytest.mark.parametrize("seed", range(2))
async def test_many_that_cross(shared_server: BusServer, client: Connect, seed: int) -> None:
    choose = random.Random(seed)
    plays = [tuple(choose.choices(STEPS, weights=(4, 2, 4, 2, 1), k=12)) for _ in range(20)]
    await play(shared_server, client, plays, f"many-{seed}")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(100, 120))
async def test_very_many_that_cross(shared_server: BusServer, client: Connect, seed: int) -> None:
    choose = random.Random(seed)
    plays = [tuple(choose.choices(STEPS, weights=(4, 2, 4, 2, 1), k=30)) for _ in range(25)]
    await play(shared_server, client, plays, f"many-{seed}")
