"""P22, P23: many streams at once, readers of every kind, servers that are killed, notifications that are lost."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.server import BusServer
from tests.reliability.growing import Streams

CHANNELS = 5


async def servers_of(start_server: StartServer, storage: Storage) -> list[BusServer]:
    """One process with SQLite; in a cluster two, of both kinds, whose layer loses half of all notifications."""
    env = {"ARQONBUS_RETRY_SPREAD": "0.5"}
    if storage.redis is None:
        return [await asyncio.to_thread(start_server, env=env)]
    env["DJANGO_SETTINGS_MODULE"] = "tests.reliability.lossy"
    return [await asyncio.to_thread(start_server, kind, env=env) for kind in ("daphne", "uvicorn")]


async def run(
    start_server: StartServer, storage: Storage, *, streams: int, rate: float, seconds: float, kills: int, seed: int
) -> Streams:
    """Let streams grow for so long, with the faults spread over that time; everything is judged."""
    servers = await servers_of(start_server, storage)
    token = await asyncio.to_thread(servers[0].create_token, "tests", admin=True)
    crowd = Streams(servers, token=token, seed=seed)
    addresses = [f"lab:talk-{number}" for number in range(CHANNELS)]
    try:
        for number, address in enumerate(addresses):
            await crowd.reader(f"old-{number}", address)
            reader = await crowd.reader(f"cut-{number}", address)
            crowd.start(crowd.cut(reader, 3, seconds * 0.8))
        for number in range(streams):
            mode = "parts" if number % 4 == 3 else "text"
            await crowd.speech(addresses[number % CHANNELS], mode, int(rate * seconds), rate=rate)
        # HTTP costs more than a frame: few owners speak by it, and slowly.
        for number in range(2):
            await crowd.speech(addresses[number], "text", int(5 * seconds), rate=5, rest=True)
        for speech in crowd.speeches:
            crowd.listen(speech)
        speaking = [crowd.start(owner.run()) for owner in crowd.owners]

        async def join_late() -> None:
            await asyncio.sleep(seconds / 2)
            for number, address in enumerate(addresses):
                await crowd.reader(f"late-{number}", address)

        late = crowd.start(join_late())
        for number in range(kills):
            await asyncio.sleep(seconds / (kills + 1) * (0.5 + crowd.random.random() / 2))
            await asyncio.to_thread(servers[number % len(servers)].restart)
        await asyncio.gather(late, *speaking)
        await crowd.all_read()
        crowd.judge(storage)
    finally:
        await crowd.stop()
    return crowd


async def test_streams_are_read_whole_by_everybody_though_servers_are_killed(
    start_server: StartServer, storage: Storage
) -> None:
    crowd = await run(start_server, storage, streams=20, rate=50, seconds=10, kills=3, seed=20261128)
    print(sum(len(speech.asked) for speech in crowd.speeches), "times an owner asked what is kept")


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_minute_of_streams_and_thirty_kills(start_server: StartServer, storage: Storage) -> None:
    await run(start_server, storage, streams=20, rate=50, seconds=60, kills=30, seed=30)
