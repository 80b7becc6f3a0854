"""P1, P6: what was acknowledged survives the death of the process; nobody misses or doubles anything."""

from __future__ import annotations

import asyncio
import hashlib
import random

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.reliability.traffic import Crowd, query


async def kill_rounds(start_server: StartServer, storage: Storage, rounds: int, seed: int) -> Crowd:
    """Kill the server at random moments while 20 publishers send and 5 members listen; start it again each time."""
    server = await asyncio.to_thread(start_server)
    crowd = Crowd([server], seed=seed)
    moments = random.Random(seed)
    try:
        await crowd.join(5, "lab:bench", "lab:notes", name="listener")
        publishers = await crowd.join(20, "lab:door", name="publisher")
        async with crowd.publishing(publishers, "lab:bench", rate=400):
            for _ in range(rounds):
                await crowd.until_acked(100 + moments.randrange(100))
                await asyncio.sleep(moments.random() * 0.2)
                crowd.recorder.note("kill -9")
                await asyncio.to_thread(server.restart)
            await crowd.until_acked(50)
        await crowd.judge(storage)
    finally:
        await crowd.stop()
    assert all(member.connections == rounds + 1 for member in crowd.members)
    return crowd


async def test_nothing_acknowledged_is_lost_when_the_process_is_killed_under_load(
    start_server: StartServer, storage: Storage
) -> None:
    await kill_rounds(start_server, storage, rounds=3, seed=20261124)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_thirty_kills_under_load_lose_nothing(start_server: StartServer, storage: Storage) -> None:
    crowd = await kill_rounds(start_server, storage, rounds=30, seed=30)
    print(crowd.recorder.summary())


def fingerprint(storage: Storage) -> str:
    """A hash over every row that clients made (the server's own activity stream goes on)."""
    rows = query(
        storage,
        "SELECT m.channel_id, m.seq, m.uid, m.type, m.sender, m.created_at, m.frame FROM bus_message m"
        " WHERE m.channel_id IN (SELECT c.id FROM bus_channel c JOIN bus_room r ON r.id = c.room_id WHERE r.name = 'lab')"
        " ORDER BY m.channel_id, m.seq",
    )
    assert rows
    return hashlib.sha256(repr(rows).encode()).hexdigest()


async def test_history_is_the_same_after_everything_was_restarted(
    start_server: StartServer, own_postgres_storage: Storage
) -> None:
    storage = own_postgres_storage
    server = await asyncio.to_thread(start_server, storage=storage)
    crowd = Crowd([server])
    publishers = await crowd.join(3, "lab:bench", name="publisher")
    async with crowd.publishing(publishers, "lab:bench", rate=300):
        await crowd.until_acked(100)
    await crowd.stop()
    before = fingerprint(storage)
    for graceful in (True, False):
        await asyncio.to_thread(server.restart, graceful=graceful)
        if storage.redis is not None:
            await asyncio.to_thread(storage.redis.restart)
        if storage.postgres is not None:
            await asyncio.to_thread(storage.postgres.restart)
    assert fingerprint(storage) == before
    await crowd.judge(storage)
