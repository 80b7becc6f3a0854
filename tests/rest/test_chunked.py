"""A request body is the same however it is framed: chunked, as proxies and streaming clients send it, or with its length."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.conftest import Connect, StartServer
from tests.harness.server import BusServer, ServerKind
from tests.rest.conftest import CallAs, Rest

pytestmark = pytest.mark.embedded


def in_chunks(data: bytes) -> Iterator[bytes]:
    """A body of several parts, whose length nobody tells."""
    size = max(7, len(data) // 20)
    for start in range(0, len(data), size):
        yield data[start : start + size]


def chunked(rest: Rest, method: str, path: str, body: Any) -> httpx.Response:
    """Send JSON chunked."""
    data = json.dumps(body).encode()
    answer = rest.client.request(method, path, content=in_chunks(data), headers={"Content-Type": "application/json"})
    assert answer.request.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.request.headers
    return answer


def writes() -> set[str]:
    """The operations of the document that take a body."""
    document = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call] # it has no types
    found = (operation for methods in document["paths"].values() for operation in methods.values())
    return {operation["operationId"] for operation in found if "requestBody" in operation}


def user_token(server: BusServer) -> str:
    """A token of a superuser."""
    server.create_superuser("root")
    return server.manage("create_token", "chunks", "--user", "root").strip().splitlines()[-1].strip()


@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_every_write_of_the_document_does_the_same_when_its_body_is_chunked(
    start_server: StartServer, call_as: CallAs, wire: Connect, kind: ServerKind, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server, kind)
    rest = call_as(server, await asyncio.to_thread(user_token, server))
    done = set()

    async def write(operation: str, method: str, path: str, body: Any, status: int = 200) -> Any:
        answer = await asyncio.to_thread(chunked, rest, method, path, body)
        assert answer.status_code == status, f"{operation}: {answer.text}"
        done.add(operation)
        return answer.json() if answer.content else None

    room = fresh_room
    assert (await write("rooms_create", "POST", "rooms", {"room": room}, 201))["room"] == room
    assert (await write("rooms_update", "PATCH", f"rooms/{room}", {"private": True}))["private"] is True
    made = await write("channels_create", "POST", "channels", {"room": room, "channel": "a"}, 201)
    assert made["channel"] == "a"
    changed = await write("channels_update", "PATCH", f"channels/{room}:a", {"description": "changed"})
    assert changed["metadata"]["description"] == "changed"
    path = f"channels/{room}:a/messages"
    assert (await write("channel_messages_publish", "POST", path, {"message": "one"}, 201))["seq"] == 1
    assert (await write("channel_mark_move", "PUT", f"channels/{room}:a/mark", {"seq": 1}))["unread"] == 0
    jobs = f"channels/{room}:jobs"
    made = await write("channels_create", "POST", "channels", {"room": room, "channel": "jobs", "work": {}}, 201)
    for n in range(3):
        await write("channel_messages_publish", "POST", f"{jobs}/messages", {"message": f"job {n}"}, 201)
    claims = (await write("claims_create", "POST", f"{jobs}/claims", {"max": 3}))["claims"]
    first, second, third = (f"claims/{claim['claim']}" for claim in claims)
    assert (await write("claims_done", "POST", f"{first}/done", {"result": [1]}))["state"] == "done"
    assert (await write("claims_release", "POST", f"{second}/release", {"delay": 1}))["state"] == "ready"
    assert (await write("claims_reject", "POST", f"{third}/reject", {"error": "no"}))["state"] == "dead"
    batch = {"messages": [{"channel": f"{room}:a", "message": "two"}, {"channel": f"{room}:a", "message": "three"}]}
    found = await write("messages_publish", "POST", "messages", batch, 201)
    assert [row["seq"] for row in found["results"]] == [2, 3]
    told = [frame["message"] for frame in rest.get(path, order="asc")["results"]]
    assert told == ["one", "two", "three"]
    opened = await asyncio.to_thread(rest.ok, "POST", path, {"stream": {"mode": "text"}, "payload": {}})
    stream = f"streams/{opened['stream']['of']}"
    assert (await write("streams_append", "POST", f"{stream}/append", {"n": 1, "delta": "Hel"}))["have"] == 1
    adopted = (await write("streams_adopt", "POST", f"{stream}/adopt", {"keep": True}))["token"]
    end = {"n": 2, "delta": "lo", "token": adopted}
    assert (await write("streams_end", "POST", f"{stream}/end", end))["stream"]["state"] == "complete"
    events = await asyncio.to_thread(chunked, rest, "POST", f"{stream}/events?as=agui", {"messages": []})
    assert (events.status_code, "Hello" in events.text) == (200, True), events.text
    done.add("stream_events_post")
    me = (await asyncio.to_thread(rest.get, "me"))["name"]
    question = {"to": me, "durable": True, "payload": {"a": 1}}
    asked = (await write("ask", "POST", "ask", question, 202))["ask"]
    await write("asks_reply", "POST", f"asks/{asked}/reply", {"payload": {"sum": 3}}, 201)
    question = {"key": "k", "title": "May I?", "action": "act", "args": {"n": 1}}
    await write("decisions_request", "POST", f"channels/{room}:a/decisions", question, 201)
    guest = await wire(server, client_id=f"{room}-asker")
    asked = (await guest.request("request_decision", channel="science:explore", **question))["decision"]
    made = await write("decisions_decide", "POST", f"decisions/{asked}/decide", {"answer": "approve"})
    assert made["state"] == "approved"
    rule = {"subject": "everyone", "subject_name": "", "action": "join", "pattern": f"{room}:*", "allow": True}
    grant = await write("grants_create", "POST", "grants", rule, 201)
    assert (await write("grants_update", "PATCH", f"grants/{grant['id']}", {"allow": False}))["allow"] is False
    token = await write("tokens_create", "POST", "tokens", {"name": "another", "scopes": ["join"]}, 201)
    assert token["scopes"] == ["join"]
    doing = {"status": "working", "ttl": 60, "channel": f"{room}:a"}
    told = await write("clients_status", "PUT", f"clients/{room}-agent/status", doing)
    assert told["status"]["status"] == "working"
    wanted = {"handler": "nobody", "next": "retry"}
    await write("handlers_help", "POST", f"channels/{room}:a/handlers", wanted, 404)
    client = await wire(server, client_id=f"{room}-away")
    await write("clients_disconnect", "POST", f"clients/{room}-away/disconnect", {"reason": "go"}, 204)
    assert await client.wait_closed() == 4403
    assert done == writes()
    # An empty one is no body, and one beyond the limit is refused as with a length.
    assert (await asyncio.to_thread(rest.client.request, "POST", "tickets", content=iter([]))).status_code == 201
    large = await asyncio.to_thread(chunked, rest, "POST", "messages", {"message": "x" * 9_000_000})
    assert large.json()["error"]["code"] == "FRAME_TOO_LARGE"
    broken = await asyncio.to_thread(rest.client.request, "POST", path, content=iter([b'{"mess']))
    assert broken.status_code in (400, 415)


def test_a_change_that_names_no_field_is_refused(admin: Rest, fresh_room: str) -> None:
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "a"})
    grant = admin.ok("POST", "grants", {"subject": "everyone", "action": "join", "pattern": fresh_room})
    for path in (f"rooms/{fresh_room}", f"channels/{fresh_room}:a", f"grants/{grant['id']}"):
        bodies: tuple[Any, ...] = ({}, None, b"")
        for body in bodies:
            error = admin.error("PATCH", path, body)
            assert error["code"] == "VALIDATION_ERROR", (path, body, error)
            assert "names no field" in error["message"]
    assert admin.error("PATCH", f"channels/{fresh_room}:a", {"retention": {}})["code"] == "VALIDATION_ERROR"
    # An empty value is one.
    admin.ok("PATCH", f"channels/{fresh_room}:a", {"metadata": {}}, status=200)
    admin.ok("PATCH", f"rooms/{fresh_room}", {"description": ""}, status=200)
