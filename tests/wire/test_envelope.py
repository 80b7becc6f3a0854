"""Tests of delivered frames and their form."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient
from tests.harness.server import BusServer

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_the_delivered_envelope_is_the_same_for_both_dialects(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, dialect=dialect, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    await writer.publish("hello", channel="general", message_id="arq_m1", ack=True)
    frame = await reader.expect("event")
    assert TIME.fullmatch(frame.pop("timestamp"))
    if dialect == "v1":
        assert TIME.fullmatch(frame.pop("client_timestamp"))
    assert frame == {
        "version": "1.0",
        "id": "arq_m1",
        "type": "event",
        "room": fresh_room,
        "channel": "general",
        "from": writer.client_id,
        "seq": 1,
        "payload": {"message": "hello"},
        "message": "hello",
    }


async def test_a_payloads_bytes_are_passed_on_as_they_came(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    writer = await wire(shared_server, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    payload = (
        '{"z": 1.0, "a":1e2,"n":1.234567890123456789012345678901, "a":0.10,"u":"\\u00e9é", "s" : {"y":2,"x":[ 1,2 ]}}'
    )
    await writer.send(f'{{"channel":"general","payload":{payload}}}')
    await reader.expect("event")
    live = next(received.raw for received in reader.received if '"z": 1.0' in received.raw)
    assert payload in live
    await reader.request("history", room=fresh_room, channel="general")
    assert payload in reader.received[-1].raw


async def test_what_others_may_not_decide_is_the_servers(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    writer = await wire(shared_server, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    lies = {
        "from": "root",
        "sender": "root",
        "from_client": "root",
        "seq": 999,
        "timestamp": "2001-01-01T00:00:00.000Z",
    }
    await writer.send({"channel": "general", "message": "x", "token": "secret", **lies})
    frame = await reader.expect("event")
    assert (frame["from"], frame["seq"]) == (writer.client_id, 1)
    assert frame["client_timestamp"] == "2001-01-01T00:00:00.000Z"
    assert frame["timestamp"] > "2026"
    assert "metadata" not in frame
    assert "secret" not in json.dumps(frame)


@pytest.mark.parametrize("timestamp", ["yesterday", "", 5, None])
async def test_a_time_that_is_none_is_left_out(
    shared_server: BusServer, wire: Connect, fresh_room: str, timestamp: Any
) -> None:
    writer = await wire(shared_server, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    await writer.send({"channel": "general", "message": "x", "timestamp": timestamp})
    assert "client_timestamp" not in await reader.expect("event")


async def test_unknown_keys_pass_through_inside_metadata(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, dialect=dialect, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    await writer.publish("x", channel="general", metadata={"own": 1}, trace_id="t-1", priority=5, ack=True)
    assert (await reader.expect("event"))["metadata"] == {"own": 1, "trace_id": "t-1", "priority": 5}


@pytest.mark.parametrize(
    "alias",
    [
        {"content": "hi"},
        {"message": "hi"},
        {"payload": {"message": "hi"}},
        {"payload": {"content": "hi"}},
    ],
)
async def test_a_text_has_several_spellings(
    shared_server: BusServer, wire: Connect, fresh_room: str, alias: dict[str, Any]
) -> None:
    writer = await wire(shared_server, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    await writer.send({"channel": "general", **alias})
    assert (await reader.expect("event"))["message"] == "hi"


@pytest.mark.parametrize("spelling", ["args", "params", "parameters"])
async def test_parameters_have_several_spellings(shared_server: BusServer, wire: Connect, spelling: str) -> None:
    client = await wire(shared_server)
    await client.send({"command": "ping", "id": "p1", spelling: {"echo": 1}})
    assert (await client.expect("command_response", request_id="p1"))["result"]["echo"] == 1
    v1 = {"version": "1.0", "id": "arq_p2", "type": "command", "payload": {"command": "ping", spelling: {"echo": 2}}}
    await client.send(v1)
    assert (await client.expect("command_response", request_id="arq_p2"))["result"]["echo"] == 2


async def test_an_answer_speaks_to_both_dialects(shared_server: BusServer, wire: Connect, dialect: Dialect) -> None:
    client = await wire(shared_server, dialect=dialect)
    good, bad = await client.command("ping"), await client.command("nope")
    for answer in (good, bad):
        assert answer["version"] == "1.0"
        assert answer["id"].startswith("arq_")
        assert answer["from"] == "arqonbus_server"
        for key in ("request_id", "command", "status", "message"):
            assert answer["payload"][key] == answer[key]
    assert good["payload"]["result"] == good["result"]
    assert bad["payload"]["error"] == bad["error"]
    assert (bad["error"]["code"], bad["error"]["number"]) == ("UNKNOWN_COMMAND", 400)


# --- presence -----------------------------------------------------------------------------------------------------------


async def test_joining_and_leaving_are_told_to_the_other_members(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    here = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    elsewhere = await wire(shared_server, room=fresh_room, channel="b")
    comer = await wire(
        shared_server, room=fresh_room, channel="a", client_type="ai-agent", screen_name="Comer", avatar="c.png"
    )
    card = {"client_id": comer.client_id, "client_type": "ai-agent", "screen_name": "Comer", "avatar": "c.png"}
    joined = await here.expect("system", "client_joined")
    assert joined["from"] == "arqonbus_server"
    assert (joined["room"], joined["channel"]) == (fresh_room, "a")
    assert joined["payload"] == {"event": "client_joined", **card, "participants": 2}
    await comer.leave(fresh_room, "a")
    left = await here.expect("system", "client_left")
    assert left["payload"] == {"event": "client_left", **card, "participants": 1}
    await comer.join(fresh_room, "a")
    assert (await here.expect("system", "client_joined"))["payload"]["participants"] == 2
    await comer.join(fresh_room, "a")  # It is there already.
    await here.expect_nothing("system", "client_joined", after=[comer])
    await comer.cut()
    assert (await here.expect("system", "client_left"))["payload"]["participants"] == 1
    await elsewhere.expect_nothing("system", "client_joined")
    await comer_saw_nothing_of_itself(comer)


async def test_a_room_may_do_without_notices(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str
) -> None:
    here = await wire(shared_server, room=fresh_room, channel="a")
    change = {"presence": False}, {"Authorization": f"Bearer {admin_token}"}
    status, body = await asyncio.to_thread(shared_server.request, "PATCH", f"/api/v1/rooms/{fresh_room}", *change)
    assert status == 200, body
    comer = await wire(shared_server, room=fresh_room, channel="a")
    await comer.leave(fresh_room, "a")
    await here.expect_nothing("system", "client_joined", after=[comer])
    await here.expect_nothing("system", "client_left")


async def test_the_notices_of_a_busy_channel_are_gathered(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server(env={"ARQONBUS_PRESENCE_COALESCE_ABOVE": "2", "ARQONBUS_PRESENCE_COALESCE": "0.3"})
    here = await wire(server, room=fresh_room, channel="a")
    comers = [await wire(server, room=fresh_room, channel="a") for _ in range(6)]
    # While the channel is small each comer has a frame of its own.
    first = (await here.expect("system", "client_joined"))["payload"]
    assert (first["client_id"], first["participants"]) == (comers[0].client_id, 2)
    joined: list[str] = []
    notice: dict[str, Any] = {}
    while len(joined) < 5:
        notice = (await here.expect("system", "presence"))["payload"]
        assert notice["joined_count"] == len(notice["joined"])
        assert notice["left_count"] == 0
        joined += [card["client_id"] for card in notice["joined"]]
    assert sorted(joined) == sorted(comer.client_id for comer in comers[1:])
    assert notice["participants"] == 7
    # Where they leave it is a small channel again: the last to go is not told of before those who went first.
    for comer in comers:
        await comer.leave(fresh_room, "a")
    left: list[str] = []
    while len(left) < 6:
        notice = (await here.expect("system"))["payload"]
        left += [card["client_id"] for card in notice.get("left", [notice])]
    assert sorted(left) == sorted(comer.client_id for comer in comers)
    assert notice["participants"] == 1


async def comer_saw_nothing_of_itself(comer: WireClient) -> None:
    events = [frame["payload"].get("event") for frame in comer.frames if frame["type"] == "system"]
    assert events == ["welcome", "registered"]
