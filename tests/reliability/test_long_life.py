"""P20: after 2,000 connections came, joined, left and went, nothing of them is left."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.server import BusServer
from tests.reliability.light import LightClient
from tests.reliability.traffic import query


def figure(server: BusServer, name: str) -> float:
    """A figure of `/metrics`, over all labels."""
    page = server.get("/metrics")[1].decode()
    return sum(
        float(value) for value in re.findall(rf"^arqonbus_{name}(?:\{{[^}}]*\}})? ([\d.e+-]+)", page, re.MULTILINE)
    )


def figures(storage: Storage) -> dict[str, Any]:
    """The process's own figures, from its last sign of life."""
    found: dict[str, Any] | str = query(storage, "SELECT stats FROM bus_node")[0][0]
    return json.loads(found) if isinstance(found, str) else found  # SQLite keeps JSON as text


async def cycles(server: BusServer, count: int, room: str) -> None:
    """Connect, join another channel, leave it, close; twenty at a time."""

    async def one(number: int) -> None:
        client = await LightClient.connect(server.port, client_id=f"c{number % 200}-{room}", room=f"{room}:hall")
        for command in ("join_channel", "leave_channel"):
            client.request({"type": "command", "id": command, "command": command, "room": room, "channel": "aside"})
        await client.answered(2)
        client.cut()
        await client.lost.wait()

    for start in range(0, count, 20):
        await asyncio.gather(*(one(start + number) for number in range(20)))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("cluster", marks=pytest.mark.cluster),
        # SQLite's page cache, up to 32 MB for each thread, has to fill before anything else can be seen.
        pytest.param("embedded", marks=[pytest.mark.embedded, pytest.mark.chaos]),
    ],
)
async def test_two_thousand_connections_leave_neither_memory_nor_entries(
    start_server: StartServer, storage: Storage, backend: str
) -> None:
    server = await asyncio.to_thread(start_server)
    # What the first ones make is there for good: code, pools, the memory of the busiest logs.
    await cycles(server, 1000 if backend == "cluster" else 4000, "lab")
    before = server.rss()
    await cycles(server, 2000, "lab")
    async with asyncio.timeout(20):
        while figure(server, "connections") or query(storage, "SELECT count(*) FROM bus_membership")[0][0]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    grown = (server.rss() - before) / 1024 / 1024
    print(f"2,000 cycles, {backend}: {grown:.1f} MiB more")
    assert grown < 10
    assert query(storage, "SELECT count(*) FROM bus_client WHERE node_id IS NOT NULL")[0][0] == 0
    # Nor does the process hold anything of theirs: no member in the hub, no task.
    async with asyncio.timeout(10):
        while any(figures(storage)[name] for name in ("connections", "memberships", "tasks")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
