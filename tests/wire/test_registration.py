"""Tests of connecting and registering."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer

Name = Callable[[str], str]


async def test_the_server_says_welcome_at_once(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server, register=False)
    welcome = (await client.expect("system", "welcome"))["payload"]
    assert welcome["client_id"].startswith("client-")
    assert welcome["protocol"] == "1.0"
    assert welcome["registered"] is False
    assert welcome["limits"]["frame_bytes"] == 256 * 1024
    assert welcome["server_version"]


async def test_a_registration_is_answered_with_who_where_and_how_to_come_back(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, dialect: Dialect
) -> None:
    client = await wire(
        shared_server,
        dialect=dialect,
        client_id=name("alice"),
        client_type="ai-agent",
        room=f"{fresh_room}:explore",
        screen_name="Alice",
        avatar=None,
        personality={"curious": True},
    )
    answer = client.registered
    assert answer["client_id"] == name("alice")
    assert answer["client_type"] == "ai-agent"
    assert answer["role"] == "anonymous"
    assert (answer["room"], answer["channel"]) == (fresh_room, "explore")
    assert answer["resume_token"]
    assert {f"{fresh_room}:explore", f"{fresh_room}:*", "*:*", f"pm:{name('alice')}"} <= set(answer["channels"])
    assert all({"epoch", "seq"} <= set(row) for row in answer["channels"].values())


@pytest.mark.parametrize(
    ("given", "initial"),
    [
        ({}, "science:general"),
        ({"room": "{room}"}, "{room}:general"),
        ({"room": "{room}:explore"}, "{room}:explore"),
        ({"room": "{room}", "channel": "explore"}, "{room}:explore"),
        ({"channel": "{room}:explore"}, "{room}:explore"),
        ({"channel": "explore"}, "science:explore"),
        ({"room": "", "channel": ""}, "science:general"),
    ],
)
async def test_the_initial_pair_follows_the_rules_of_addresses(
    shared_server: BusServer, wire: Connect, fresh_room: str, given: dict[str, str], initial: str
) -> None:
    client = await wire(shared_server, **{key: text.format(room=fresh_room) for key, text in given.items()})
    assert f"{client.registered['room']}:{client.registered['channel']}" == initial.format(room=fresh_room)


@pytest.mark.parametrize(
    ("registration", "code"),
    [
        ({"client_id": "a b"}, "VALIDATION_ERROR"),
        ({"client_id": "x" * 65}, "VALIDATION_ERROR"),
        ({"client_id": "arqonbus_server"}, "VALIDATION_ERROR"),
        ({"client_id": 5, "personality": "x"}, "VALIDATION_ERROR"),
        ({"personality": {"a": "\x00"}}, "VALIDATION_ERROR"),
        ({"screen_name": "a\x00"}, "VALIDATION_ERROR"),
        ({"room": "*"}, "INVALID_NAME"),
        ({"room": "a b"}, "INVALID_NAME"),
        ({"room": "pm:somebody"}, "INVALID_NAME"),
        ({"room": "a:b:c"}, "INVALID_NAME"),
    ],
)
async def test_a_wrong_registration_is_one_error_and_the_next_one_is_taken(
    shared_server: BusServer, wire: Connect, registration: dict[str, Any], code: str
) -> None:
    client = await wire(shared_server, register=False)
    with pytest.raises(WireError) as caught:
        await client.register(**registration)
    assert caught.value.code == code
    await client.send({"client_type": "app", "room": "science"})
    await client.expect("system", "registered")


async def test_any_other_first_frame_registers_under_the_generated_id(
    shared_server: BusServer, wire: Connect, dialect: Dialect
) -> None:
    client = await wire(shared_server, register=False, dialect=dialect)
    welcome = await client.expect("system", "welcome")
    await client.ping()
    registered = (await client.expect("system", "registered"))["payload"]
    assert registered["client_id"] == welcome["payload"]["client_id"]
    assert (registered["room"], registered["channel"]) == ("science", "general")


async def test_a_first_message_is_published_after_the_implicit_registration(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    reader = await wire(shared_server, room=fresh_room, channel="a")
    writer = await wire(shared_server, register=False, dialect=dialect)
    await writer.publish("first", room=fresh_room, channel="a", ack=True)
    assert (await reader.expect("event"))["message"] == "first"


async def test_the_query_string_registers_too(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name
) -> None:
    query = urlencode({"client_id": name("q"), "client_type": "dashboard", "room": f"{fresh_room}:a", "since": "0"})
    client = await wire(f"{shared_server.url}?{query}", register=False)
    registered = (await client.expect("system", "registered"))["payload"]
    assert registered["client_id"] == name("q")
    assert registered["client_type"] == "dashboard"
    assert (registered["room"], registered["channel"]) == (fresh_room, "a")
    assert registered["channels"][f"{fresh_room}:a"]["recovered"] is True


@pytest.mark.parametrize("query", ["client_id=a%20b", "room=a%20b", "room=*"])
async def test_a_wrong_query_string_is_one_error_and_the_connection_stays(
    shared_server: BusServer, wire: Connect, query: str
) -> None:
    client = await wire(f"{shared_server.url}?{query}", register=False)
    assert (await client.expect("error"))["error"]["number"] == 400
    await client.ping()


async def test_a_second_registration_is_refused(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server)
    await client.send({"client_id": "somebody-else", "client_type": "app"})
    assert (await client.expect("error"))["error"]["code"] == "ALREADY_REGISTERED"
    await client.ping()


async def test_an_id_in_use_is_refused_with_4409(shared_server: BusServer, wire: Connect, name: Name) -> None:
    first = await wire(shared_server, client_id=name("alice"))
    second = await wire(shared_server, register=False)
    await second.send({"client_id": name("alice"), "client_type": "app"})
    assert (await second.expect("error"))["error"]["code"] == "CLIENT_ID_IN_USE"
    assert await second.wait_closed() == 4409
    await first.ping()


async def test_a_wrong_resume_token_does_not_take_an_id_over(
    shared_server: BusServer, wire: Connect, name: Name
) -> None:
    first = await wire(shared_server, client_id=name("alice"))
    second = await wire(shared_server, register=False)
    await second.send({"client_id": name("alice"), "resume": {"token": "guessed", "positions": {}}})
    assert (await second.expect("error"))["error"]["code"] == "CLIENT_ID_IN_USE"
    assert await second.wait_closed() == 4409
    await first.ping()


async def test_the_resume_token_takes_the_id_over_and_the_older_connection_is_closed_4410(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, dialect: Dialect
) -> None:
    watcher = await wire(shared_server, room=fresh_room, channel="a")
    first = await wire(shared_server, dialect=dialect, client_id=name("alice"), room=fresh_room, channel="a")
    await watcher.expect("system", "client_joined")
    second = await first.reconnect()
    assert second.client_id == name("alice")
    assert (await first.expect("error"))["error"]["code"] == "TAKEN_OVER"
    assert await first.wait_closed() == 4410
    await second.ping()
    # The client was there all the time: nobody is told that it left.
    await watcher.expect_nothing("system", "client_left", after=[second])
    info = await watcher.request("channel_info", room=fresh_room, channel="a")
    assert name("alice") in [row["client_id"] for row in info["participants"]]
    await second.close()
    assert (await watcher.expect("system", "client_left"))["payload"]["client_id"] == name("alice")


async def test_the_channels_that_a_takeover_leaves_behind_are_left(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name
) -> None:
    watcher = await wire(shared_server, room=fresh_room, channel="b")
    first = await wire(shared_server, client_id=name("alice"), room=fresh_room, channel="a")
    await first.join(fresh_room, "b")
    await watcher.expect("system", "client_joined")
    second = await wire(
        shared_server,
        client_id=name("alice"),
        room=fresh_room,
        channel="a",
        resume={"token": first.registered["resume_token"], "positions": {}},
    )
    left = (await watcher.expect("system", "client_left"))["payload"]
    assert (left["client_id"], left["participants"]) == (name("alice"), 1)
    await second.ping()


async def test_the_same_principal_takes_an_id_over(shared_server: BusServer, wire: Connect, name: Name) -> None:
    token = shared_server.create_token(name("principal"))
    first = await wire(shared_server, client_id=name("alice"), token=token)
    second = await wire(shared_server, client_id=name("alice"), headers={"Authorization": f"Bearer {token}"})
    assert await first.wait_closed() == 4410
    await second.ping()
    stranger = await wire(shared_server, register=False)
    await stranger.send({"client_id": name("alice")})
    assert await stranger.wait_closed() == 4409


async def test_a_token_in_the_first_frame_identifies_whatever_that_frame_is(
    shared_server: BusServer, wire: Connect, admin_token: str, fresh_room: str
) -> None:
    client = await wire(shared_server, register=False)
    await client.send(
        {"command": "create_channel", "id": "c1", "token": admin_token, "room": fresh_room, "channel": "x"}
    )
    assert (await client.expect("system", "registered"))["payload"]["role"] == "admin"
    assert (await client.expect("command_response"))["status"] == "success"


async def test_a_wrong_token_is_told_and_closed_4401(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server, register=False)
    await client.send({"client_type": "app", "token": "wrong"})
    assert (await client.expect("error"))["error"]["code"] == "UNAUTHENTICATED"
    assert await client.wait_closed() == 4401


async def test_both_paths_and_the_sub_protocol_are_served(shared_server: BusServer, wire: Connect) -> None:
    for path in ("", "ws/"):
        client = await wire(f"{shared_server.url}{path}", subprotocols=["arqonbus.v1"])
        assert client.socket.subprotocol == "arqonbus.v1"
        await client.ping()


async def test_a_binary_frame_with_json_is_taken(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    reader = await wire(shared_server, room=fresh_room, channel="a")
    writer = await wire(shared_server, register=False)
    await writer.send(json.dumps({"client_type": "app", "room": fresh_room}).encode())
    await writer.expect("system", "registered")
    await writer.send(json.dumps({"room": fresh_room, "channel": "a", "message": "binär"}).encode())
    assert (await reader.expect("event"))["message"] == "binär"


async def test_a_client_that_comes_back_gets_what_it_missed(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, room=fresh_room, channel="other")
    reader = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    await writer.publish("1", room=fresh_room, channel="a", ack=True)
    await reader.wait_seq(f"{fresh_room}:a", 1)
    await reader.cut()
    for text in ("2", "3"):
        await writer.publish(text, room=fresh_room, channel="a", ack=True)
    await writer.publish("to the room", room=fresh_room, ack=True)
    back: WireClient = await reader.reconnect()
    assert back.registered["channels"][f"{fresh_room}:a"]["recovered"] is True
    await writer.publish("4", room=fresh_room, channel="a", ack=True)
    await back.wait_seq(f"{fresh_room}:a", 4)
    await back.wait_seq(f"{fresh_room}:*", 1)
    assert [message["message"] for message in back.messages(f"{fresh_room}:a")] == ["2", "3", "4"]
    assert [message["message"] for message in back.messages(f"{fresh_room}:*")] == ["to the room"]
    await back.close()


async def test_another_epoch_is_not_recovered_and_says_from_where_it_goes_on(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    writer = await wire(shared_server, room=fresh_room, channel="a")
    await writer.publish("1", ack=True)
    reader = await wire(shared_server, room=fresh_room, channel="a", since=1, epoch="another")
    row = reader.registered["channels"][f"{fresh_room}:a"]
    assert (row["recovered"], row["first_seq"], row["seq"]) == (False, 1, 1)
    assert (await reader.expect("event"))["message"] == "1"


async def test_an_id_is_free_again_at_once_when_its_server_was_killed_and_came_back(
    start_server: StartServer, wire: Connect, name: Name, fresh_room: str
) -> None:
    server = start_server()
    await wire(server, client_id=name("alice"), room=fresh_room, channel="a")
    server.restart()
    # It brings no resume token: a client of the first README knows of none.
    again = await wire(server, client_id=name("alice"), room=fresh_room, channel="a")
    info = await again.request("channel_info", room=fresh_room, channel="a")
    assert [row["client_id"] for row in info["participants"]] == [name("alice")]
