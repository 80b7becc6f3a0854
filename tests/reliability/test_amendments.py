"""Many amendments by many clients fold to one state for every reader, and an erased text is nowhere afterwards."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from bus.protocol.amending import change_of, folded
from bus.protocol.frames import encode
from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

ADDRESS, CLIENTS = "team:chat", 10
SECRET = "grüner hecht"
TIMEOUT = 60


def state_of(frames: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a reader sees who got the frames of a log in any order: the messages by their seq."""
    encoded = {frame["seq"]: encode(frame) for frame in frames}
    changes: dict[int, list[Any]] = {}
    for frame in encoded.values():
        if (change := change_of(frame)) is not None:
            changes.setdefault(json.loads(frame)["of_seq"], []).append(change)
    return {
        seq: json.loads(folded(frame, changes.get(seq, ())))
        for seq, frame in encoded.items()
        if change_of(frame) is None
    }


async def servers(start_server: StartServer, cluster: bool) -> list[BusServer]:
    """Two processes where they can share a layer, else one."""
    env = {"ARQONBUS_RATE_LIMIT": "0", "ARQONBUS_STORE_TIMEOUT": "10"}
    return [await asyncio.to_thread(start_server, env=env) for _ in range(2 if cluster else 1)]


async def amend_at_random(clients: list[WireClient], uids: list[dict[str, Any]], count: int) -> None:
    """Each client amends messages of everybody, one after the other; all at the same time. Only own ones are edited."""

    async def one(number: int, client: WireClient) -> None:
        dice = random.Random(number)
        for turn in range(count // len(clients)):
            own = dice.random() < 0.5
            message = uids[number + CLIENTS * dice.randrange(len(uids) // CLIENTS)] if own else dice.choice(uids)
            do: dict[str, Any] = {"do": dice.choice(("react", "unreact")), "reaction": dice.choice(("👍", "🎉", "x"))}
            if own:
                do = dice.choice(
                    [{"do": "edit", "message": f"{number}.{turn}"}, {"do": "edit", "payload": {"n": turn}}, do]
                )
            await client.publish(ack=True, timeout=TIMEOUT, type="amend", channel=ADDRESS, **message, **do)

    await asyncio.gather(*(one(number, client) for number, client in enumerate(clients)))
    # Ten messages are deleted, each by its sender.
    for number, client in enumerate(clients):
        await client.publish(ack=True, timeout=TIMEOUT, type="amend", channel=ADDRESS, **uids[number], do="delete")


async def history_of(server: BusServer, token: str, **keys: Any) -> list[dict[str, Any]]:
    """The whole history of the channel over REST, oldest first."""
    found: list[dict[str, Any]] = []
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT) as rest:
        url: str | None = f"{server.http_url}/api/v1/channels/{ADDRESS}/messages"
        parameters: dict[str, Any] | None = {"order": "asc", "limit": 100, **keys}
        while url is not None:
            answer = (await rest.get(url, params=parameters)).json()
            found += answer["results"]
            url, parameters = answer["next"], None
    return found


@pytest.mark.parametrize(("many", "count"), [(40, 100), pytest.param(100, 1000, marks=pytest.mark.chaos)])
async def test_live_late_and_history_readers_fold_to_one_state(
    start_server: StartServer, wire: Connect, backends: Backends, tmp_path: Path, many: int, count: int
) -> None:
    both = await servers(start_server, backends.name == "cluster")
    first, last = both[0], both[-1]
    token = await asyncio.to_thread(first.create_token, "reader", admin=True)
    live = await wire(last, client_id="live", room=ADDRESS)
    clients = [await wire(both[n % len(both)], client_id=f"c{n}", room=ADDRESS) for n in range(CLIENTS)]
    uids = []
    for n in range(many):
        sent = await clients[n % CLIENTS].publish(
            ack=True, message_id=f"m{n}", channel=ADDRESS, message=f"{SECRET} {n}", timeout=TIMEOUT
        )
        uids.append({"of": f"arq_m{n}", "of_seq": sent["seq"]})
    await amend_at_random(clients, uids, count)
    total = many + count + CLIENTS

    await live.wait_seq(ADDRESS, total, timeout=TIMEOUT)
    seen = state_of(live.messages(ADDRESS))
    assert len(seen) == many
    assert sum("deleted" in message for message in seen.values()) == CLIENTS
    late = await wire(first, client_id="late")
    await late.join("team", "chat", since=0)
    await late.wait_seq(ADDRESS, total, timeout=TIMEOUT)
    assert state_of(late.messages(ADDRESS)) == seen
    for server in both:
        assert {message["seq"]: message for message in await history_of(server, token, fold=1)} == seen
        assert state_of(await history_of(server, token)) == seen

    # --- the law ---------------------------------------------------------------------------------------------------------
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT) as rest:
        url = f"{first.http_url}/api/v1/channels/{ADDRESS}/messages/{uids[15]['of_seq']}/erase"
        assert (await rest.post(url)).json()["messages"] >= 1
    erased = await live.expect(event="erased", timeout=TIMEOUT)
    assert {"seq": uids[15]["of_seq"], "id": "arq_m15"} in erased["payload"]["messages"]
    gone = {15}
    if count == 1000:
        await asyncio.to_thread(first.manage, "erase_client", "c0")
        gone |= set(range(0, many, CLIENTS))

    async def forgot(server: BusServer) -> bool:
        """Whether a new member gets none of the texts from a process, out of its memory or its log."""
        reader = await wire(server, client_id=f"new-{random.randrange(10**9)}")
        await reader.join("team", "chat", since=0)
        await reader.wait_seq(ADDRESS, total, timeout=TIMEOUT)
        texts = {str(frame.get("message", "")) for frame in reader.messages(ADDRESS)}
        await reader.close()
        return texts.isdisjoint(f"{SECRET} {n}" for n in gone)

    for server in both:
        # A process may hear of it a moment later.
        await wait_for(partial(forgot, server), "no process has an erased text", deadline=TIMEOUT)
        frames = await history_of(server, token)
        assert [frame["seq"] for frame in frames] == list(range(1, total + 1))
        assert sum(1 for frame in frames if frame.get("erased") and frame["type"] == "event") == len(gone)
        assert state_of(frames) == {m["seq"]: m for m in await history_of(server, token, fold=1)}
    path = tmp_path / "export.jsonl"
    await asyncio.to_thread(last.manage, "export_history", "--output", str(path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    texts = {
        line["message"] for line in lines if line["channel"] == "chat" and line["type"] == "event" and "message" in line
    }
    assert texts == {f"{SECRET} {n}" for n in range(many) if n not in gone}
