"""Statuses under load: many updates a second in a large channel stay a few notices."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness.client import WireClient
from tests.harness.waiting import wait_for
from tests.reliability.light import LightClient

MEMBERS, SENDERS, ROUNDS = 500, 50, 60


def _set(tokens: int) -> dict[str, Any]:
    return {"type": "command", "id": f"s{tokens}", "command": "set_status", "status": "working", "tokens": tokens}


@pytest.mark.chaos
@pytest.mark.timeout(300)
async def test_a_thousand_statuses_a_second_among_five_hundred_members_stay_gathered(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_RATE_LIMIT": "0"})
    members = [await LightClient.connect(server.port, client_id=f"m{n}", room="crowd:hall") for n in range(MEMBERS)]
    witness = await WireClient.connect(server.url, client_id="witness", room="crowd:hall")
    begun = time.monotonic()
    for tokens in range(ROUNDS):
        # 50 senders every 50 ms.
        due = begun + tokens * 0.05
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        for sender in members[:SENDERS]:
            sender.request(_set(tokens))
    for sender in members[:SENDERS]:
        async with asyncio.timeout(60):
            await sender.answered(ROUNDS)

    async def all_done() -> bool:
        rows = (await witness.request("list_clients", channel="crowd:hall", status="working", limit=500))["clients"]
        return [row["status"]["tokens"] for row in rows] == [ROUNDS - 1] * SENDERS

    await wait_for(all_done, "the last status of each sender is shown")
    elapsed = time.monotonic() - begun
    await witness.ping()
    events = [frame["payload"].get("event") for frame in witness.frames if frame["type"] == "system"]
    notices = events.count("presence")
    print(json.dumps({"statuses": ROUNDS * SENDERS, "seconds": round(elapsed, 1), "notices": notices}))
    assert "client_updated" not in events
    # One for each fifth of a second, and some for the joins before.
    assert notices <= elapsed / 0.2 + 10
    for member in members:
        member.cut()
    await witness.close()
