"""Many owners and readers of streamed messages, while lines break and the server is killed: equal texts, and each part once."""

from __future__ import annotations

import asyncio
import random

import pytest

import arqonbus
from arqonbus import Answer
from tests.clients_python.conftest import Connect
from tests.clients_python.test_recovery import quick
from tests.clients_python.test_stream import WAIT, whole, words
from tests.conftest import StartServer
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.chaos

STREAMS, PARTS, KILLS = 20, 400, 6


async def test_many_streams_over_kills_of_the_server(
    start_server: StartServer, client: Connect, fresh_room: str
) -> None:
    server = start_server(env={"ARQONBUS_RETRY_SPREAD": "0.2", "ARQONBUS_STREAM_GRACE": "60"})
    address = f"{fresh_room}:42"
    owners = [await client(server, backoff=quick(), timeout=120) for _ in range(4)]
    readers = [await client(server, backoff=quick(), timeout=120) for _ in range(3)]
    written: dict[str, str] = {}
    spoken = 0
    chance = random.Random(13)

    async def spoken_of_all(share: float) -> None:
        """Wait until the owners have said that share of all texts."""
        await wait_for(lambda: spoken >= share * STREAMS * PARTS, "the owners", deadline=10 * WAIT)

    async def write(number: int) -> None:
        nonlocal spoken
        texts = [f"{number}:{word}" for word in words(PARTS)]
        async with owners[number % 4].stream(address, roll_up=0, window=16) as out:
            for text in texts:
                await out.write(text)
                spoken += 1
                await asyncio.sleep(0.02 * chance.random())
        assert out.state == "complete"
        written[out.of] = "".join(texts)

    async def read(bus: arqonbus.Bus, buffer: int) -> dict[str, str]:
        texts: dict[str, str] = {}

        async def follow(answer: Answer) -> None:
            async with asyncio.timeout(10 * WAIT):
                async for _ in answer.deltas():
                    assert answer.text.startswith(texts.get(answer.id, ""))
                    texts[answer.id] = answer.text
            texts[answer.id] = await whole(answer)

        async with bus.subscribe(address, since=0, buffer=buffer) as messages, asyncio.TaskGroup() as group:
            for _ in range(STREAMS):
                message = await messages.get(10 * WAIT)
                assert isinstance(message, Answer)
                group.create_task(follow(message))
        assert messages.gaps == 0
        return texts

    async def trouble() -> None:
        for kill in range(KILLS):
            await spoken_of_all((kill + 0.6) / (KILLS + 1))
            for victim in chance.sample([*owners, *readers], 3):
                if victim._link is not None:
                    victim._link.abort()
            await spoken_of_all((kill + 1) / (KILLS + 1))
            await asyncio.to_thread(server.restart, graceful=False)

    async with asyncio.TaskGroup() as group:
        early = [group.create_task(read(readers[0], 1000)), group.create_task(read(readers[1], 3))]
        for number in range(STREAMS):
            group.create_task(write(number))
        group.create_task(trouble())
        await spoken_of_all(0.3)
        late = group.create_task(read(readers[2], 1000))
    assert len(written) == STREAMS
    for reading in (*early, late):
        assert reading.result() == written
    assert {m.id: m.text async for m in readers[0].history(address)} == written
    assert all(len(bus._streams) == len(bus._growing) == 0 for bus in (*owners, *readers))
