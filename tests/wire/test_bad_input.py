"""Bad input gets one clear error, changes nothing, and leaves the connection usable."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient
from tests.harness.server import BusServer

BOMB = '{"payload":' + '{"a":' * 5000 + "1" + "}" * 5001
LARGE = json.dumps({"id": "m1", "type": "event", "room": "never", "channel": "made", "message": "x" * 300 * 1024})


def v1(**more: Any) -> dict[str, Any]:
    return {"version": "1.0", "id": "arq_1", "type": "event", "room": "never", "channel": "made", "payload": {}, **more}


BAD = [
    # Not JSON, or not an object.
    ("", "INVALID_JSON"),
    ("hello", "INVALID_JSON"),
    ("{", "INVALID_JSON"),
    ("[]", "INVALID_JSON"),
    ("null", "INVALID_JSON"),
    ('{"type":"event",}', "INVALID_JSON"),
    ('{"room":"never","channel":"made","payload":{"x":NaN}}', "INVALID_JSON"),
    ('{"room":"never","channel":"made","message":Infinity}', "INVALID_JSON"),
    ('{"room":"never","channel":"made","message":"\\ud800"}', "INVALID_JSON"),
    # Bombs and giants.
    (BOMB, "INVALID_JSON"),
    ("[" * 100_000, "INVALID_JSON"),
    (LARGE, "FRAME_TOO_LARGE"),
    # Binary junk.
    (bytes(range(256)), "INVALID_JSON"),
    (b"\x00", "INVALID_JSON"),
    (b'{"room":"never","channel":"made","message":"\xff"}', "INVALID_JSON"),
    (b'{"room":"never","channel":"made","payload":{"\xc3":1}}', "INVALID_JSON"),
    # Wrong types.
    ({"type": 5}, "VALIDATION_ERROR"),
    ({"room": 5, "channel": ["made"]}, "VALIDATION_ERROR"),
    ({"room": "never", "channel": "made", "payload": "text"}, "VALIDATION_ERROR"),
    ({"room": "never", "channel": "made", "ack": "yes"}, "VALIDATION_ERROR"),
    ({"room": "never", "channel": "made", "id": ["x"]}, "VALIDATION_ERROR"),
    ({"room": "never", "channel": "made", "id": "x" * 200}, "VALIDATION_ERROR"),
    ({"type": "private", "to": 5}, "VALIDATION_ERROR"),
    ({"type": "private", "to": ["a b"]}, "VALIDATION_ERROR"),
    ({"type": "private", "to": [f"client{n}" for n in range(101)]}, "VALIDATION_ERROR"),
    ({"type": "x" * 65, "room": "never", "channel": "made"}, "VALIDATION_ERROR"),
    ({"type": "command_response", "room": "never", "channel": "made"}, "VALIDATION_ERROR"),
    # Names.
    ({"room": "with space", "channel": "made"}, "INVALID_NAME"),
    ({"room": "never", "channel": "with space"}, "INVALID_NAME"),
    ({"room": "never", "channel": "a:b:c"}, "INVALID_NAME"),
    ({"room": "never:", "message": "x"}, "INVALID_NAME"),
    ({"room": "x" * 200, "channel": "made"}, "INVALID_NAME"),
    ({"room": "never", "channel": "x" * 200}, "INVALID_NAME"),
    ({"room": "névér", "channel": "made"}, "INVALID_NAME"),
    ({"room": "never", "channel": "\x00"}, "INVALID_NAME"),
    # Versions and types.
    (v1(version="2.0"), "UNSUPPORTED_VERSION"),
    (v1(version=1.0), "UNSUPPORTED_VERSION"),
    (v1(type="chess.move"), "UNKNOWN_TYPE"),
    (v1(type=None), "VALIDATION_ERROR"),
    (v1(id="no-prefix"), "VALIDATION_ERROR"),
    (v1(id=None), "VALIDATION_ERROR"),
]


@pytest.mark.parametrize(("frame", "code"), BAD, ids=lambda value: str(value)[:40] if isinstance(value, str) else None)
async def test_a_bad_frame_is_one_error_and_nothing_else(
    shared_server: BusServer, wire: Connect, frame: Any, code: str
) -> None:
    client = await wire(shared_server)
    await client.send(frame)
    problem = await client.expect("error")
    assert problem["error"]["code"] == code
    assert problem["error"]["message"]
    assert len(json.dumps(problem)) < 2000
    await _usable_and_nothing_made(client)


async def _usable_and_nothing_made(client: WireClient) -> None:
    await client.expect_nothing("error")
    answer = await client.command("list_channels", room="never")
    assert answer["error"]["code"] == "ROOM_NOT_FOUND"


@pytest.mark.parametrize("frame", [LARGE, "hello", bytes(range(256)), BOMB])
async def test_a_bad_first_frame_leaves_the_connection_usable(
    shared_server: BusServer, wire: Connect, frame: Any
) -> None:
    client = await wire(shared_server, register=False)
    await client.send(frame)
    await client.expect("error")
    await _usable_and_nothing_made(client)


async def test_a_refused_frame_is_named_by_its_id(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server)
    await client.send(LARGE)
    assert (await client.expect("error"))["request_id"] == "m1"
    await client.send({"id": "m2", "room": 5, "payload": "x", "echo": "?"})
    problem = await client.expect("error")
    assert problem["request_id"] == "m2"
    assert [fault["field"] for fault in problem["error"]["details"]] == ["room", "echo", "payload"]


@pytest.mark.parametrize(
    ("command", "parameters", "code"),
    [
        ("no_such_command", {}, "UNKNOWN_COMMAND"),
        ("", {}, "UNKNOWN_COMMAND"),
        ("join_channel", {"room": "with space", "channel": "x"}, "INVALID_NAME"),
        ("join_channel", {"room": "never", "channel": "x" * 200}, "INVALID_NAME"),
        ("join_channel", {"room": 5}, "VALIDATION_ERROR"),
        ("join_channel", {"room": "never", "channel": "made", "since": -1}, "VALIDATION_ERROR"),
        ("join_channel", {"room": "never", "channel": "made", "surprise": 1}, "VALIDATION_ERROR"),
        ("history", {"limit": 0}, "VALIDATION_ERROR"),
        ("history", {"limit": 501}, "VALIDATION_ERROR"),
        ("history", {"limit": "many"}, "VALIDATION_ERROR"),
        ("history", {"before": "yesterday"}, "VALIDATION_ERROR"),
        ("history", {"before": 2**64 - 1}, "VALIDATION_ERROR"),
        ("history", {"after": "9" * 30}, "VALIDATION_ERROR"),
        ("history", {"sender": "a\x00"}, "VALIDATION_ERROR"),
        ("status", {"after": "\x00"}, "VALIDATION_ERROR"),
        ("list_channels", {"room": "a b"}, "INVALID_NAME"),
        ("list_channels", {"room": ":"}, "INVALID_NAME"),
        ("list_channels", {"after": "no cursor"}, "INVALID_NAME"),
        ("channel_info", {"room": "never", "channel": "made"}, "CHANNEL_NOT_FOUND"),
        ("leave_channel", {"room": "never", "channel": "made"}, "NOT_A_MEMBER"),
        ("create_channel", {"room": "never", "channel": "made"}, "FORBIDDEN"),
        ("delete_channel", {"room": "science", "channel": "explore"}, "FORBIDDEN"),
    ],
)
async def test_a_bad_command_is_one_answer_and_nothing_else(
    shared_server: BusServer, wire: Connect, command: str, parameters: dict[str, Any], code: str
) -> None:
    client = await wire(shared_server)
    answer = await client.command(command, **parameters)
    assert (answer["status"], answer["error"]["code"]) == ("error", code)
    await _usable_and_nothing_made(client)


async def test_a_command_without_a_name_is_an_error(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server)
    await client.send({"type": "command", "id": "c1"})
    assert (await client.expect("error", request_id="c1"))["error"]["details"][0]["field"] == "command"


async def test_a_frame_over_the_servers_own_limit_closes_that_connection_with_1009_only(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    bystander = await wire(shared_server, room=fresh_room)
    client = await wire(shared_server, room=fresh_room)
    await client.send(b" " * (1024 * 1024 + 1))
    assert await client.wait_closed() == 1009
    await bystander.expect("system", "client_left")
    await bystander.publish("still here", channel="general", ack=True)


async def test_a_frame_of_one_megabyte_is_an_error_and_not_the_end(shared_server: BusServer, wire: Connect) -> None:
    client = await wire(shared_server)
    await client.send(b" " * (1024 * 1024))
    assert (await client.expect("error"))["error"]["code"] == "FRAME_TOO_LARGE"
    await client.ping()


async def test_a_flood_of_bad_frames_costs_the_connection(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    bystander = await wire(shared_server, room=fresh_room)
    client = await wire(shared_server, room=fresh_room)
    for _ in range(60):
        await client.send("junk")
    assert await client.wait_closed() == 4008
    errors = [frame for frame in client.frames if frame["type"] == "error"]
    assert 50 <= len(errors) <= 55
    assert errors[-1]["error"]["code"] == "INVALID_JSON"
    await bystander.ping()


async def test_frames_above_the_rate_are_refused_and_then_end_the_connection(
    start_server: StartServer, wire: Connect
) -> None:
    server = start_server(
        env={
            "ARQONBUS_RATE_LIMIT": "5",
            "ARQONBUS_RATE_BURST": "10",
            "ARQONBUS_BAD_FRAMES": "5",
            "ARQONBUS_AUTO_CREATE": "0",
        }
    )
    client = await wire(server)
    for number in range(40):
        await client.send({"command": "ping", "id": f"p{number}"})
    assert await client.wait_closed() == 4429
    refused = [frame for frame in client.frames if frame["type"] == "error"]
    assert {frame["error"]["code"] for frame in refused} == {"RATE_LIMITED"}
    assert all(frame["error"]["retry_after"] > 0 for frame in refused)
    assert refused[0]["request_id"].startswith("p")
    # Where nothing is made by itself, a wrong name is not there.
    other = await wire(server)
    await other.publish("x", room="unknown", channel="unknown")
    assert (await other.expect("error"))["error"]["code"] == "CHANNEL_NOT_FOUND"
    answer = await other.command("join_channel", room="science", channel="unknown")
    assert answer["error"]["code"] == "CHANNEL_NOT_FOUND"
    answer = await other.command("join_channel", room="science", channel="explore")
    assert answer["result"]["created"] is False
