"""Servers that the bus has no adapter for: they serve through ASGI alone, and docs/operations.md says what they lack."""

from __future__ import annotations

import asyncio

import pytest

import arqonbus
from tests.conftest import StartServer
from tests.harness.server import ServerKind

MESSAGES = 1000


@pytest.mark.embedded
@pytest.mark.parametrize("kind", ["granian", "hypercorn"])
async def test_a_client_gets_every_message_and_resumes_after_a_graceful_restart(
    start_server: StartServer, kind: ServerKind, fresh_room: str
) -> None:
    server = start_server(kind)
    address = f"{fresh_room}:a"
    received: asyncio.Queue[int] = asyncio.Queue()

    async def read(bus: arqonbus.Bus) -> None:
        async for message in bus.subscribe(address, since=0):
            received.put_nowait(message.payload["n"])

    async def expect(*numbers: int) -> None:
        async with asyncio.timeout(60):
            assert [await received.get() for _ in numbers] == list(numbers)

    async with (
        arqonbus.connect(server.url, client_id=f"{fresh_room}-sender") as sender,
        arqonbus.connect(server.url, client_id=f"{fresh_room}-reader", room=address) as reader,
    ):
        reading = asyncio.create_task(read(reader))
        for n in range(MESSAGES):
            await sender.publish(address, {"n": n})
        await expect(*range(MESSAGES))

        # The reader resumes where it was, whether it was told to come back or only lost its connection.
        await asyncio.to_thread(server.terminate)
        if kind == "granian":
            assert "event=drain" in server.log()
            assert "Traceback" not in server.log()
        await asyncio.to_thread(server.start)
        await sender.publish(address, {"n": MESSAGES})
        await expect(MESSAGES)
        reading.cancel()
