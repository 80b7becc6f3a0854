"""What is no JSON for every reader is refused at each door, under the frame's own id, and costs its sender one error."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect
from tests.harness.server import BusServer

NUMBERS = ["1e999", "-1e999", "9" * 20, "9" * 5000, "-9223372036854775809"]
HALF = '"\\ud83d"'
DEEP = "[" * 40 + "]" * 40


def frame_of(dialect: Dialect, value: str, place: str = "payload") -> tuple[str, str]:
    """A frame with a value somewhere in it, and its id."""
    head = '"version":"1.0","id":"arq_n1","type":"event"' if dialect == "v1" else '"id":"n1"'
    inside = {"payload": f'"payload":{{"a":[{{"n":{value}}}]}}', "message": f'"message":{value}', "x": f'"x":{value}'}
    return f"{{{head},{inside[place]}}}", "arq_n1" if dialect == "v1" else "n1"


@pytest.mark.parametrize("place", ["payload", "message", "x"])
async def test_a_number_out_of_range_is_one_error_that_names_the_field(
    shared_server: BusServer, wire: Connect, dialect: Dialect, fresh_room: str, place: str
) -> None:
    client = await wire(shared_server, room=fresh_room, dialect=dialect)
    bystander = await wire(shared_server, room=fresh_room)
    for number in NUMBERS:
        text, request_id = frame_of(dialect, number, place)
        await client.send(text)
        problem = await client.expect("error", request_id=request_id)
        assert problem["error"]["code"] == "VALIDATION_ERROR"
        assert [fault["field"] for fault in problem["error"]["details"]] == [place]
    await client.send(frame_of(dialect, "1", place)[0])
    assert (await bystander.expect("event"))["seq"] == 1


@pytest.mark.parametrize("value", [HALF, DEEP, "01", '"\n"'])
async def test_what_is_no_json_is_refused_under_its_id(
    shared_server: BusServer, wire: Connect, dialect: Dialect, fresh_room: str, value: str
) -> None:
    client = await wire(shared_server, room=fresh_room, dialect=dialect)
    text, request_id = frame_of(dialect, value)
    await client.send(text)
    assert (await client.expect("error", request_id=request_id))["error"]["code"] == "INVALID_JSON"


@pytest.mark.parametrize(
    ("value", "code"), [("1e999", "VALIDATION_ERROR"), (HALF, "INVALID_JSON"), (DEEP, "INVALID_JSON")]
)
async def test_the_telemetry_socket_refuses_it_too(
    shared_server: BusServer, wire: Connect, value: str, code: str
) -> None:
    client = await wire(shared_server.telemetry_url, register=False)
    await client.send(f'{{"id":"t1","eventType":"x","payload":{{"n":{value}}}}}')
    assert (await client.expect("error", request_id="t1"))["error"]["code"] == code


@pytest.mark.parametrize(
    ("value", "code"), [("1e999", "VALIDATION_ERROR"), (HALF, "INVALID_JSON"), (DEEP, "INVALID_JSON")]
)
def test_rest_refuses_it_too(
    shared_server: BusServer, admin_token: str, fresh_room: str, value: str, code: str
) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {admin_token}"}
    with httpx.Client(base_url=f"{shared_server.http_url}/api/v1", headers=headers, trust_env=False) as rest:

        def problem(method: str, path: str, body: str) -> dict[str, Any]:
            answer = rest.request(method, path, content=body.encode())
            assert answer.status_code == 400, answer.text
            found: dict[str, Any] = answer.json()["error"]
            return found

        good, bad = '{"message":"x"}', f'{{"payload":{{"n":{value}}}}}'
        path = f"/channels/{fresh_room}:a/messages"
        assert problem("POST", path, bad)["code"] == code
        batch = problem("POST", path, f'{{"messages":[{good},{bad}]}}')
        assert batch["code"] == code
        if code == "VALIDATION_ERROR":
            assert [(fault["index"], fault["field"]) for fault in batch["details"]] == [(1, "payload")]
        assert problem("POST", "/rooms", f'{{"name":"{fresh_room}","description":{value}}}')["code"] == code
        assert rest.get(f"/rooms/{fresh_room}").status_code == 404


@pytest.mark.parametrize("between", ['"', "\\", "_", "é"])
async def test_a_time_with_something_else_in_the_middle_is_none(
    shared_server: BusServer, wire: Connect, dialect: Dialect, fresh_room: str, between: str
) -> None:
    client = await wire(shared_server, room=fresh_room, dialect=dialect)
    bystander = await wire(shared_server, room=fresh_room)
    text, _ = frame_of(dialect, "1")
    await client.send(f'{text[:-1]},"timestamp":{json.dumps(f"2026-01-01{between}00:00:00")}}}')
    assert "client_timestamp" not in await bystander.expect("event")
