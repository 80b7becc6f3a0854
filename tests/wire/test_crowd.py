"""Five hundred connections at once: everybody gets every message once, in order, without a hole."""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.conftest import StartServer

CLIENTS, ROOMS, MESSAGES = 500, 25, 20


class Guest:
    """One connection: in a channel of a group of twenty, and in one of another group."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.first = f"group-{number % ROOMS}:talk"
        self.second = f"group-{(number // ROOMS + number) % ROOMS}:work"
        self.seen: dict[str, list[int]] = defaultdict(list)
        self.heads: dict[str, int] = {}
        self.acks: dict[str, list[int]] = defaultdict(list)
        self.errors: list[dict[str, Any]] = []
        self.joined = asyncio.Event()
        self.acked = asyncio.Event()
        self.socket: ClientConnection

    async def come_in(self, url: str) -> None:
        """Connect, register in the first channel, join the second."""
        self.socket = await connect(
            url, compression=None, max_queue=None, ping_interval=None, proxy=None, open_timeout=60
        )
        await self.socket.send(f'{{"client_id":"guest-{self.number}","client_type":"app","room":"{self.first}"}}')
        await self.socket.send(f'{{"command":"join_channel","id":"j","room":"{self.second}"}}')

    async def listen(self) -> None:
        """Take what comes, in the order in which it comes."""
        async for raw in self.socket:
            frame = msgspec.json.decode(raw)
            kind = frame["type"]
            if kind == "event":
                self.seen[f"{frame['room']}:{frame['channel']}"].append(frame["seq"])
            elif kind == "ack":
                self.acks[f"{frame['room']}:{frame['channel']}"].append(frame["seq"])
                if sum(map(len, self.acks.values())) == MESSAGES:
                    self.acked.set()
            elif kind == "system" and frame["payload"]["event"] == "registered":
                self.heads[self.first] = frame["payload"]["channels"][self.first]["seq"]
            elif kind == "command_response":
                self.heads[self.second] = frame["result"]["seq"]
                self.joined.set()
            elif kind == "error":
                self.errors.append(frame)

    async def speak(self) -> None:
        """Publish to both channels in turn, each message acknowledged."""
        for n in range(MESSAGES):
            address = (self.first, self.second)[n % 2]
            await self.socket.send(f'{{"id":"m{n}","channel":"{address}","message":"{self.number}.{n}","ack":true}}')
            await asyncio.sleep(0)
        await self.acked.wait()


@pytest.mark.embedded
@pytest.mark.timeout(180)
async def test_500_connections_get_every_message_once_in_order_without_a_hole(start_server: StartServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    # On a busy machine ten thousand messages at once may wait longer than publishers usually do.
    server = start_server(env={"ARQONBUS_STORE_TIMEOUT": "60", "ARQONBUS_NODE_TIMEOUT": "30"})
    guests = [Guest(number) for number in range(CLIENTS)]
    async with asyncio.timeout(120):
        for start in range(0, CLIENTS, 50):
            await asyncio.gather(*(guest.come_in(server.url) for guest in guests[start : start + 50]))
        listeners = [asyncio.create_task(guest.listen()) for guest in guests]
        try:
            await asyncio.gather(*(guest.joined.wait() for guest in guests))
            await asyncio.gather(*(guest.speak() for guest in guests))
            published: dict[str, list[int]] = defaultdict(list)
            for guest in guests:
                for address, seqs in guest.acks.items():
                    published[address] += seqs
            await _everybody_has_everything(guests, published)
        finally:
            for guest in guests:
                guest.socket.transport.abort()
            await asyncio.gather(*listeners, return_exceptions=True)
    assert not any(guest.errors for guest in guests)
    assert sum(map(len, published.values())) == CLIENTS * MESSAGES
    for seqs in published.values():
        # One order in each channel: 1, 2, 3 … with no hole and no double.
        assert sorted(seqs) == list(range(1, len(seqs) + 1))
    for guest in guests:
        for address in (guest.first, guest.second):
            assert guest.heads[address] == 0
            own = set(guest.acks[address])
            # Everybody's but its own, in the order of the seqs.
            assert guest.seen[address] == [n for n in range(1, len(published[address]) + 1) if n not in own]


async def _everybody_has_everything(guests: list[Guest], published: dict[str, list[int]]) -> None:
    """Wait until the last messages are there, for as long as the caller's deadline lets us."""

    def due(guest: Guest) -> int:
        return sum(len(published[address]) - len(guest.acks[address]) for address in (guest.first, guest.second))

    while any(sum(map(len, guest.seen.values())) < due(guest) for guest in guests):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
