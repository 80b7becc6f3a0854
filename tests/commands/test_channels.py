"""Tests of create_channel, delete_channel, join_channel, leave_channel, list_channels and channel_info."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for


async def error_of(client: WireClient, command: str, **parameters: Any) -> dict[str, Any]:
    """The error of a command that must be refused."""
    answer = await client.command(command, **parameters)
    assert answer["status"] == "error", answer
    error: dict[str, Any] = answer["error"]
    return error


async def test_create_channel_makes_a_channel_with_its_metadata(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token)
    result = await admin.request(
        "create_channel",
        room=fresh_room,
        channel="lab",
        description="Where we work",
        metadata={"colour": "blue", "hardcoded": True},
        retention={"count": 100, "age": 3600},
    )
    assert (result["room"], result["channel"]) == (fresh_room, "lab")
    metadata = result["metadata"]
    assert metadata["created_by"] == admin.client_id
    assert metadata["created_at"].endswith("Z")
    assert (metadata["type"], metadata["hardcoded"], metadata["ephemeral"]) == ("custom", False, False)
    assert (metadata["description"], metadata["colour"]) == ("Where we work", "blue")
    assert metadata["retention"] == {"count": 100, "age": 3600}
    assert (await error_of(admin, "create_channel", room=fresh_room, channel="lab"))["code"] == "CHANNEL_EXISTS"


async def test_create_and_delete_are_for_admins(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect)
    assert (await error_of(client, "create_channel", room=fresh_room, channel="x"))["code"] == "FORBIDDEN"
    assert (await error_of(client, "delete_channel", room="science", channel="explore"))["code"] == "FORBIDDEN"
    assert (await error_of(client, "list_channels", room=fresh_room))["code"] == "ROOM_NOT_FOUND"


async def test_create_channel_needs_to_know_which(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token)
    assert (await error_of(admin, "create_channel", room=fresh_room))["details"][0]["field"] == "channel"
    faults = await error_of(
        admin, "create_channel", room=fresh_room, channel="x", description=5, ephemeral="no?", extra=1
    )
    assert {fault["field"] for fault in faults["details"]} == {"description", "ephemeral", "extra"}
    assert (await admin.request("create_channel", room=f"{fresh_room}:y"))["channel"] == "y"


async def test_delete_channel_wants_it_empty_and_not_built_in(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token)
    member = await wire(shared_server, room=fresh_room, channel="lab")
    full = await error_of(admin, "delete_channel", room=fresh_room, channel="lab")
    assert (full["code"], full["details"]) == ("CHANNEL_NOT_EMPTY", [{"participants": [member.client_id]}])
    await member.leave(fresh_room, "lab")
    await member.publish("kept", room=fresh_room, channel="lab", ack=True)
    result = await admin.request("delete_channel", room=fresh_room, channel="lab")
    assert result == {"room": fresh_room, "channel": "lab", "deleted": True}
    assert (await error_of(admin, "delete_channel", room=fresh_room, channel="lab"))["code"] == "CHANNEL_NOT_FOUND"
    built_in = await error_of(admin, "delete_channel", room="science", channel="explore")
    assert built_in["code"] == "CHANNEL_PROTECTED"
    # Made anew, it is another log.
    again = await member.publish("new", room=fresh_room, channel="lab", ack=True)
    assert again["seq"] == 1


async def test_join_channel_answers_with_the_head_and_makes_what_is_missing(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    first = await wire(shared_server, dialect=dialect, room="science")
    made = await first.join(fresh_room, "a")
    assert made["created"] is True
    assert (made["room"], made["channel"], made["participants"], made["seq"]) == (fresh_room, "a", 1, 0)
    assert made["epoch"]
    second = await wire(shared_server, dialect=dialect, room="science")
    await second.publish("1", room=fresh_room, channel="a", ack=True)
    joined = await second.join(fresh_room, "a", since=0, epoch=made["epoch"])
    assert (joined["created"], joined["participants"], joined["seq"]) == (False, 2, 1)
    assert joined["recovered"] is True
    assert (await second.expect("event"))["message"] == "1"
    # Joining again changes nothing, and asks for the past once more where that is wanted.
    again = await second.join(fresh_room, "a")
    assert (again["participants"], again["seq"]) == (2, 1)
    await second.join(fresh_room, "a", since="0")
    assert (await second.expect("event"))["message"] == "1"
    await second.expect_nothing("event")


@pytest.mark.parametrize(
    ("frame", "parameters", "joined"),
    [
        ({}, {"room": "{room}", "channel": "a"}, "{room}:a"),
        ({}, {"room": "{room}:a"}, "{room}:a"),
        ({}, {"channel": "{room}:a"}, "{room}:a"),
        ({}, {"room": "{room}"}, "{room}:general"),
        ({}, {"channel": "a"}, "science:a"),
        ({"room": "{room}", "channel": "a"}, {}, "{room}:a"),
        ({"room": "{room}:a"}, {}, "{room}:a"),
        ({"room": "{room}"}, {"channel": "a"}, "{room}:a"),
        ({"channel": "a"}, {"room": "{room}"}, "{room}:a"),
        ({"room": "other", "channel": "other"}, {"room": "{room}", "channel": "a"}, "{room}:a"),
        ({"room": "other", "channel": "other"}, {"room": "{room}:a"}, "{room}:a"),
        ({"room": "{room}", "channel": "control"}, {}, "{room}:control"),
    ],
)
async def test_parameters_win_over_the_frame_and_the_frame_over_the_initial_pair(
    shared_server: BusServer,
    wire: Connect,
    fresh_room: str,
    frame: dict[str, str],
    parameters: dict[str, str],
    joined: str,
) -> None:
    client = await wire(shared_server)

    def filled(texts: dict[str, str]) -> dict[str, str]:
        return {key: text.format(room=fresh_room) for key, text in texts.items()}

    await client.send({"command": "join_channel", "id": "j", **filled(frame), "args": filled(parameters)})
    result = (await client.expect("command_response", request_id="j"))["result"]
    assert f"{result['room']}:{result['channel']}" == joined.format(room=fresh_room)


async def test_a_v1_command_addressed_to_control_is_about_the_initial_channel(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    client = await wire(shared_server, dialect="v1", room=fresh_room, channel="a")
    head = {"version": "1.0", "id": "arq_i1", "type": "command", "room": fresh_room, "channel": "control"}
    await client.send({**head, "payload": {"command": "channel_info", "parameters": {}}})
    result = (await client.expect("command_response", request_id="arq_i1"))["result"]
    assert (result["room"], result["channel"]) == (fresh_room, "a")


@pytest.mark.parametrize(("room", "channel"), [("science", "*"), ("*", "*"), ("pm", "somebody")])
async def test_only_channels_are_joined(shared_server: BusServer, wire: Connect, room: str, channel: str) -> None:
    client = await wire(shared_server)
    assert (await error_of(client, "join_channel", room=room, channel=channel))["code"] == "INVALID_NAME"


async def test_leave_channel_answers_with_what_is_left(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    await client.join(fresh_room, "b")
    result = await client.leave(fresh_room, "a")
    assert result["channels"] == [f"{fresh_room}:b"]
    await client.publish("no more", room=fresh_room, channel="a", echo=True, ack=True)
    await client.expect_nothing("event")
    assert (await error_of(client, "leave_channel", room=fresh_room, channel="a"))["code"] == "NOT_A_MEMBER"


async def test_list_channels_tells_of_a_room_and_of_all(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    result = await client.request("list_channels", room=fresh_room)
    (row,) = result["channels"]
    assert (row["room"], row["channel"], row["participants"]) == (fresh_room, "a", 1)
    assert (row["created_by"], row["type"], row["hardcoded"]) == (client.client_id, "custom", False)
    assert row["created_at"]
    assert row["last_activity"]
    assert "description" in row
    science = await client.request("list_channels", room="science")
    names = [row["channel"] for row in science["channels"] if row["hardcoded"]]
    assert names == sorted(["general", "explore", "hypothesize", "design", "execute", "interpret", "share"])
    # Without a room: the frame's, else the initial one.
    assert [row["room"] for row in (await client.request("list_channels"))["channels"]] == [fresh_room]


async def test_list_channels_comes_in_pages(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room, channel="c1")
    for number in range(2, 6):
        await client.join(fresh_room, f"c{number}")
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await client.request("list_channels", room=fresh_room, limit=2, after=after)
        assert len(page["channels"]) <= 2
        seen += [row["channel"] for row in page["channels"]]
        after = page["next"]
    assert seen == ["c1", "c2", "c3", "c4", "c5"]
    everywhere: list[str] = []
    after = ""
    while after is not None:
        page = await client.request("list_channels", all=True, limit=100, after=after)
        everywhere += [f"{row['room']}:{row['channel']}" for row in page["channels"]]
        after = page["next"]
    assert len(set(everywhere)) == len(everywhere)
    assert {f"{fresh_room}:c5", "science:general"} <= set(everywhere)


async def test_a_private_room_is_not_there_for_those_who_may_not_see_it(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token, room=fresh_room, channel="secret")
    await admin.publish("hidden", ack=True)
    status, body = await asyncio.to_thread(
        shared_server.request,
        "PATCH",
        f"/api/v1/rooms/{fresh_room}",
        {"private": True},
        {"Authorization": f"Bearer {admin_token}"},
    )
    assert status == 200, body
    anyone = await wire(shared_server, dialect=dialect)
    assert (await error_of(anyone, "list_channels", room=fresh_room))["code"] == "ROOM_NOT_FOUND"
    for command in ("channel_info", "join_channel", "history"):
        problem = await error_of(anyone, command, room=fresh_room, channel="secret")
        assert problem["code"] in ("CHANNEL_NOT_FOUND", "ROOM_NOT_FOUND"), command
    with pytest.raises(WireError) as caught:
        await anyone.publish("let me in", room=fresh_room, channel="secret", ack=True)
    assert caught.value.code == "CHANNEL_NOT_FOUND"
    with pytest.raises(WireError) as caught:
        await anyone.publish("a door of my own", room=fresh_room, channel="new", ack=True)
    assert caught.value.code == "CHANNEL_NOT_FOUND"
    assert fresh_room not in str((await anyone.request("status", limit=500))["channels"])
    rows = (await admin.request("list_channels", room=fresh_room))["channels"]
    assert [row["channel"] for row in rows] == ["secret"]


async def test_channel_info_tells_of_members_metadata_and_head(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(
        shared_server,
        dialect=dialect,
        room=fresh_room,
        channel="a",
        client_type="dashboard",
        screen_name="D",
        avatar="d.png",
    )
    await client.publish("1", ack=True)
    info = await client.request("channel_info", room=fresh_room, channel="a")
    (member,) = info["participants"]
    assert (member["client_id"], member["client_type"]) == (client.client_id, "dashboard")
    assert (member["screen_name"], member["avatar"]) == ("D", "d.png")
    assert member["joined_at"]
    assert member["last_activity"]
    assert (info["seq"], info["participant_count"]) == (1, 1)
    assert info["epoch"] == client.registered["channels"][f"{fresh_room}:a"]["epoch"]
    assert info["metadata"]["created_by"] == client.client_id
    unknown = await error_of(client, "channel_info", room=fresh_room, channel="unknown")
    assert unknown["code"] == "CHANNEL_NOT_FOUND"


async def test_a_limit_of_memberships_is_told(start_server: StartServer, wire: Connect, fresh_room: str) -> None:
    server = start_server(
        env={"ARQONBUS_MEMBERSHIPS": "2", "ARQONBUS_CHANNEL_IDLE": "1", "ARQONBUS_PRUNE_INTERVAL": "0.3"}
    )
    client = await wire(server, room=fresh_room, channel="a")
    await client.join(fresh_room, "b")
    problem = await error_of(client, "join_channel", room=fresh_room, channel="c")
    assert (problem["code"], problem["number"]) == ("LIMIT_REACHED", 429)
    assert (await error_of(client, "channel_info", room=fresh_room, channel="c"))["code"] == "CHANNEL_NOT_FOUND"
    # An empty channel that came by itself goes after a while, and its room with the last of them; one with a message stays.
    keeper = f"{fresh_room}-kept"
    await client.publish("to stay", room=keeper, channel="a", ack=True)
    await client.leave(fresh_room, "a")
    await client.leave(fresh_room, "b")

    async def rooms() -> set[str]:
        page = await client.request("list_channels", all=True, limit=500)
        return {row["room"] for row in page["channels"]}

    async def swept() -> bool:
        gone = await error_of(client, "list_channels", room="gone")
        return fresh_room not in await rooms() and gone["code"] == "ROOM_NOT_FOUND"

    await wait_for(swept, "the empty rooms are swept")
    assert {"science", keeper} <= await rooms()
    made = await client.join(fresh_room, "a")
    assert made["created"] is True
