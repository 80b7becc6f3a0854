"""The promise about private messages, with its number (P12)."""

from __future__ import annotations

import asyncio
import json
import random

from tests.conftest import Connect
from tests.harness.server import BusServer


async def test_of_500_private_messages_among_100_clients_none_reaches_a_third(
    wire: Connect, public_server: BusServer, fresh_room: str
) -> None:
    clients = await asyncio.gather(
        *(wire(public_server, client_id=f"{fresh_room}-{number}", room=f"{fresh_room}:hall") for number in range(100))
    )
    pick = random.Random(7)
    wanted: dict[str, set[str]] = {client.client_id: set() for client in clients}

    async def write(number: int) -> None:
        sender, *targets = pick.sample(clients, pick.choice((2, 2, 2, 4)))
        text = f"for your eyes {number}"
        for target in targets:
            wanted[target.client_id].add(text)
        await sender.publish(text, type="private", to=[target.client_id for target in targets], ack=True)

    for start in range(0, 500, 50):
        await asyncio.gather(*(write(number) for number in range(start, start + 50)))
    for client in clients:
        texts = wanted[client.client_id]
        got = {frame["message"] for frame in await client.expect_all(len(texts), type="private")}
        assert got == texts
        await client.expect_nothing(predicate=lambda frame: "for your eyes" in json.dumps(frame))
