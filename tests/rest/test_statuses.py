"""Statuses over HTTP, for agents that hold no socket."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.server import BusServer
from tests.rest.conftest import Rest


async def test_an_agent_without_a_socket_is_seen_while_its_status_lasts(
    alice: Rest, bob: Rest, anonymous: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    watcher = await wire(shared_server, room=f"{fresh_room}:lab")
    agent = f"{fresh_room}-agent"
    path, place = f"clients/{agent}", f"{fresh_room}:lab"
    body = {"status": "working", "task": "t", "tokens": 5, "ttl": 60, "channel": place}
    told = alice.ok("PUT", f"{path}/status", body, 200)
    assert (told["client_id"], told["status"]["tokens"], bool(told["status"]["until"])) == (agent, 5, True)
    heard = (await watcher.expect("system", "client_updated"))["payload"]
    assert (heard["client_id"], heard["status"]) == (agent, told["status"])
    assert bob.get(path)["status"] == told["status"]
    assert [row["client_id"] for row in bob.get("clients", channel=place, status="working")["results"]] == [agent]
    assert bob.get("clients", channel=place, skill="none")["results"] == []
    shown = bob.get(f"channels/{place}")
    assert {row["client_id"] for row in shown["participants"]} == {agent, watcher.client_id}
    assert shown["participant_count"] == 1
    for method, code in (("PUT", "CLIENT_ID_IN_USE"), ("DELETE", "CLIENT_ID_IN_USE")):
        assert bob.error(method, f"{path}/status", body if method == "PUT" else None)["code"] == code
        assert anonymous.error(method, f"{path}/status", body if method == "PUT" else None)["code"] == "FORBIDDEN"
    alice.ok("DELETE", f"{path}/status", status=204)
    heard = (await watcher.expect("system", "client_updated"))["payload"]
    assert heard["status"] is None
    assert bob.error("GET", path)["code"] == "CLIENT_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"status": "x"}, "ttl"),
        ({"status": "x", "ttl": 0}, "ttl"),
        ({"status": "x", "ttl": 3601}, "ttl"),
        ({"status": "x", "ttl": "60"}, "ttl"),
        ({"status": "x" * 33, "ttl": 60}, "status"),
        ({"tokens": -1, "ttl": 60}, "tokens"),
        ({"text": 5, "ttl": 60}, "text"),
        ({"mood": "good", "ttl": 60}, "mood"),
    ],
)
def test_a_wrong_status_is_refused(alice: Rest, fresh_room: str, body: dict[str, Any], field: str) -> None:
    error = alice.error("PUT", f"clients/{fresh_room}-agent/status", body)
    assert (error["code"], [fault["field"] for fault in error["details"]]) == ("VALIDATION_ERROR", [field])
    for channel, code in (("nowhere:none", "CHANNEL_NOT_FOUND"), ("nonsense", "INVALID_NAME")):
        wrong = {"status": "x", "ttl": 60, "channel": channel}
        assert alice.error("PUT", f"clients/{fresh_room}-agent/status", wrong)["code"] == code
