"""The commands set_status and list_clients, and the cards of registrations."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

CARD = {"name": "Reviewer", "skills": ["review", "Gründlichkeit"], "description": "reads"}


async def _found(client: WireClient, **asked: Any) -> set[str]:
    return {row["client_id"] for row in (await client.request("list_clients", **asked))["clients"]}


async def test_a_status_is_told_to_the_members_and_shown_wherever_they_are(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    agent = await wire(shared_server, dialect=dialect, room=f"{fresh_room}:lab")
    watcher = await wire(shared_server, room=f"{fresh_room}:lab")
    done = await agent.request("set_status", status="working", task="issue 14", text="reading", tokens=7)
    assert done["status"] == {
        "status": "working", "task": "issue 14", "text": "reading", "tokens": 7, "at": done["status"]["at"], "until": None,
    }  # fmt: skip
    told = (await watcher.expect("system", "client_updated"))["payload"]
    assert (told["client_id"], told["status"]) == (agent.client_id, done["status"])
    people = (await watcher.request("channel_info"))["participants"]
    assert {row["client_id"]: row["status"] for row in people} == {
        agent.client_id: done["status"],
        watcher.client_id: None,
    }
    # An absent field is cleared; who joins later is told by the list; who is joined hears it of the newcomer.
    await agent.request("set_status", status="idle")
    told = (await watcher.expect("system", "client_updated"))["payload"]
    assert (told["status"]["status"], told["status"]["task"]) == ("idle", None)
    await watcher.join(fresh_room, "hall")
    await agent.join(fresh_room, "hall")
    joined = await watcher.expect(
        predicate=lambda f: f.get("payload", {}).get("client_id") == agent.client_id and f["channel"] == "hall"
    )
    assert joined["payload"]["status"]["status"] == "idle"
    assert (await agent.request("set_status"))["status"] is None
    told = (await watcher.expect("system", "client_updated"))["payload"]
    assert told["status"] is None


@pytest.mark.parametrize(
    "wrong",
    [{"status": ""}, {"status": "x" * 33}, {"task": "x" * 201}, {"text": "x" * 501}, {"tokens": -1}, {"tokens": 2**53},
     {"ttl": 0}, {"ttl": 3601}, {"ttl": "soon"}, {"text": "a\x00"}, {"mood": "good"}],
)  # fmt: skip
async def test_a_wrong_status_is_refused(shared_server: BusServer, wire: Connect, wrong: dict[str, Any]) -> None:
    client = await wire(shared_server)
    with pytest.raises(WireError) as refused:
        await client.request("set_status", **wrong)
    assert refused.value.code == "VALIDATION_ERROR"
    assert [fault["field"] for fault in refused.value.details] == list(wrong)


async def test_many_statuses_of_a_moment_are_one_notice_of_each_client(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    agent = await wire(shared_server, room=f"{fresh_room}:lab")
    watcher = await wire(shared_server, room=f"{fresh_room}:lab")
    for n in range(60):
        await agent.send({"type": "command", "command": "set_status", "parameters": {"tokens": n}})
    await watcher.expect(
        "system", "client_updated", predicate=lambda f: f["payload"]["status"]["tokens"] == 59, timeout=20
    )
    told = [f for f in watcher.frames if f.get("payload", {}).get("event") == "client_updated"]
    assert len(told) < 30


async def test_a_status_with_a_time_ends_by_itself(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    agent = await wire(shared_server, room=f"{fresh_room}:lab")
    watcher = await wire(shared_server, room=f"{fresh_room}:lab")
    until = (await agent.request("set_status", status="brief", ttl=1))["status"]["until"]
    assert until is not None
    await watcher.expect("system", "client_updated", predicate=lambda f: f["payload"]["status"] is None, timeout=20)
    assert await _found(watcher, status="brief", channel=f"{fresh_room}:lab") == set()


async def test_clients_are_found_by_type_status_skill_and_channel(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    place = {"room": f"{fresh_room}:lab"}
    seeker = await wire(shared_server, **place)
    reviewer = await wire(shared_server, **place, client_type="ai-agent", card={**CARD, "own": "ignored"})
    writer = await wire(shared_server, **place, client_type="ai-agent", card={"skills": ["write"]})
    await reviewer.request("set_status", status="working")
    here = {"channel": f"{fresh_room}:lab"}
    assert await _found(seeker, **here) == {seeker.client_id, reviewer.client_id, writer.client_id}
    assert await _found(seeker, **here, type="ai-agent") == {reviewer.client_id, writer.client_id}
    assert await _found(seeker, skill="review") == {reviewer.client_id}
    assert await _found(seeker, skill="Gründlichkeit", status="working") == {reviewer.client_id}
    assert await _found(seeker, **here, skill="rev") == set()
    assert await _found(seeker, **here, status="work") == set()
    (row,) = (await seeker.request("list_clients", skill="review"))["clients"]
    assert row["card"] == CARD
    assert (row["channels"], row["status"]["status"]) == ([f"{fresh_room}:lab"], "working")
    await reviewer.close()
    await wait_for(lambda: _gone(seeker), "the reviewer is gone")


async def _gone(seeker: WireClient) -> bool:
    return await _found(seeker, skill="review") == set()


@pytest.mark.parametrize(
    "card",
    ["Reviewer", {"name": "x" * 129}, {"skills": "review"}, {"skills": [""]}, {"skills": ["x"] * 33},
     {"description": "x" * 501}, {"name": "a\x00"}, {"skills": [5]}],
)  # fmt: skip
async def test_a_wrong_card_is_refused(shared_server: BusServer, wire: Connect, card: Any) -> None:
    with pytest.raises(WireError) as refused:
        await wire(shared_server, card=card)
    assert (refused.value.code, refused.value.details[0]["field"]) == ("VALIDATION_ERROR", "card")


@pytest.mark.parametrize(
    ("channel", "code"),
    [("nowhere:none", "CHANNEL_NOT_FOUND"), ("pm:none", "CHANNEL_NOT_FOUND"), ("nonsense", "INVALID_NAME")],
)
async def test_the_directory_of_no_channel_is_refused(
    shared_server: BusServer, wire: Connect, channel: str, code: str
) -> None:
    client = await wire(shared_server)
    assert (await client.command("list_clients", channel=channel))["error"]["code"] == code
