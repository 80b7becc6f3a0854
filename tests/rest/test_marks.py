"""Marks over HTTP, and event streams that begin at them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.rest.conftest import Rest


def test_a_mark_is_moved_and_shown(alice: Rest, bob: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:a"
    for n in range(3):
        alice.ok("POST", f"{path}/messages", {"message": str(n)})
    none = alice.get(f"{path}/mark")
    assert (none["seq"], none["unread"], bool(none["epoch"])) == (None, None, True)
    marked = alice.ok("PUT", f"{path}/mark", {"seq": 2}, 200)
    assert marked == {**none, "seq": 2, "unread": 1} == alice.get(f"{path}/mark")
    assert alice.ok("PUT", f"{path}/mark", {"seq": 0}, 200)["seq"] == 2
    assert alice.ok("PUT", f"{path}/mark", {"seq": 0, "back": True, "epoch": none["epoch"]}, 200)["unread"] == 3
    (row,) = alice.get("channels", room=fresh_room)["results"]
    assert row["unread"] == 3
    (row,) = bob.get("channels", room=fresh_room)["results"]
    assert "unread" not in row


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "seq"),
        ({"seq": 9}, "seq"),
        ({"seq": "1"}, "seq"),
        ({"seq": 2**63}, "seq"),
        ({"seq": 1, "back": 1}, "back"),
        ({"seq": 1, "epoch": "other"}, "epoch"),
        ({"seq": 1, "more": 1}, "more"),
    ],
)
def test_a_wrong_mark_is_refused(alice: Rest, fresh_room: str, body: dict[str, Any], field: str) -> None:
    alice.ok("POST", f"channels/{fresh_room}:a/messages", {"message": "1"})
    error = alice.error("PUT", f"channels/{fresh_room}:a/mark", body)
    assert (error["code"], [fault["field"] for fault in error["details"]]) == ("VALIDATION_ERROR", [field])
    assert alice.get(f"channels/{fresh_room}:a/mark")["seq"] is None


async def test_only_an_identity_has_marks_and_only_an_owner_marks_an_inbox(
    admin: Rest, alice: Rest, bob: Rest, anonymous: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    alice.ok("POST", f"channels/{fresh_room}:a/messages?client_id={fresh_room}-alice", {"message": "1"})
    inbox = f"channels/pm:{fresh_room}-alice"
    bob.ok("POST", f"{inbox}/messages", {"message": "a letter"})
    assert alice.ok("PUT", f"{inbox}/mark", {"seq": 1}, 200)["unread"] == 0
    for caller, path, code in (
        (anonymous, f"channels/{fresh_room}:a", "FORBIDDEN"),
        (bob, inbox, "CHANNEL_NOT_FOUND"),
        (admin, inbox, "CHANNEL_NOT_FOUND"),
        (alice, f"channels/{fresh_room}:none", "CHANNEL_NOT_FOUND"),
        (alice, f"channels/pm:{fresh_room}-nobody", "CHANNEL_NOT_FOUND"),
    ):
        for method, body in (("PUT", {"seq": 0}), ("GET", None)):
            assert caller.error(method, f"{path}/mark", body)["code"] == code, (method, path)


async def _events(server: BusServer, token: str, path: str, wanted: int) -> list[dict[str, Any]]:
    """The first events of a stream."""
    found: list[dict[str, Any]] = []
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=f"{server.http_url}/api/v1/", headers=headers, trust_env=False) as client,
        client.stream("GET", path, timeout=20) as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if len(found) == wanted:
                    break
    return found


async def test_events_begin_at_the_mark(
    alice: Rest, anonymous: Rest, shared_server: BusServer, plain_secrets: dict[str, str], fresh_room: str
) -> None:
    token, path = plain_secrets["alice"], f"channels/{fresh_room}:a"

    def publish(text: str) -> None:
        alice.ok("POST", f"{path}/messages", {"message": text})

    await asyncio.to_thread(publish, "past")
    (begun,) = await _events(shared_server, token, f"{path}/events?since=mark", 1)
    assert (begun["seq"], begun["recovered"]) == (1, True)
    await asyncio.to_thread(publish, "between")
    told = await _events(shared_server, token, f"{path}/events?since=mark", 2)
    assert (told[0]["seq"], told[1]["message"]) == (1, "between")
    await asyncio.to_thread(alice.ok, "PUT", f"{path}/mark", {"seq": 2}, 200)
    (again,) = await _events(shared_server, token, f"{path}/events?since=mark", 1)
    assert again["seq"] == 2
    refused = await asyncio.to_thread(anonymous.error, "GET", f"{path}/events?since=mark")
    assert refused["code"] == "FORBIDDEN"
