"""`POST /mcp` as clients meet it: both versions, the headers, the identity, and everything that it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bus.mcp import tools
from bus.version import VERSION
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.mcp.conftest import Door, agent, request

# What the door says does not depend on the database.
pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def door(shared_server: BusServer) -> Iterator[Door]:
    with Door(shared_server) as made:
        yield made


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_takes_part_in_both_versions(
    shared_server: BusServer, admin_token: str, fresh_room: str, mode: str
) -> None:
    address, name = f"{fresh_room}:talk", f"robot-{fresh_room}"
    async with agent(shared_server, token=admin_token, client_id=name, mode=mode) as robot:
        assert robot.client.session.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        assert robot.client.instructions == tools.INSTRUCTIONS
        assert [tool.name for tool in (await robot.client.list_tools()).tools] == [
            tool["name"] for tool in tools.listed()
        ]
        said = await robot("publish", address=address, text="hello", payload={"n": 1}, id="a")
        assert said == {"id": "arq_a", "address": address, "seq": 1}
        assert await robot("publish", address=address, text="hello", id="a") == said | {"duplicate": True}
        past = await robot("history", address=address)
        assert past["more"] is False
        (message,) = past["messages"]
        assert (message["from"], message["text"], message["payload"], message["seq"]) == (name, "hello", {"n": 1}, 1)
        assert await robot.refused("history", address="no spaces:here") == "INVALID_NAME"
        assert await robot.refused("publish", address=address) == "VALIDATION_ERROR"
        assert await robot.refused("publish", address="inbox", text="x") == "VALIDATION_ERROR"
        assert await robot.refused("publish", address=address, text="x", to=["y"]) == "VALIDATION_ERROR"
        assert await robot.refused("publish", to=["nobody-at-all"], text="x") == "TARGET_NOT_FOUND"
        assert await robot.refused("history", address=f"{fresh_room}:nothing") == "CHANNEL_NOT_FOUND"


async def test_an_answer_grows_piece_by_piece_and_repeats_change_nothing(
    shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    address = f"{fresh_room}:talk"
    async with agent(shared_server, token=admin_token, client_id=f"robot-{fresh_room}") as robot:
        first = {"address": address, "text": "forty", "payload": {"role": "assistant"}, "id": f"o-{fresh_room}"}
        opened = await robot("append", **first)
        of = opened["of"]
        grown = {"of": of, "state": "open", "parts": 1, "stop_requested": False, "steers": []}
        assert opened == grown
        assert await robot("append", **first) == grown
        for _ in range(2):
            assert (await robot("append", of=of, text="-", n=2))["parts"] == 2
        assert await robot.refused("append", of=of, text="x", n=9) == "STREAM_GAP"
        assert (await robot("append", of=of, text="two"))["parts"] == 3
        for _ in range(2):
            end = await robot("append", of=of, text="!", n=4, end="complete", payload={"sure": True})
            assert (end["state"], end["parts"]) == ("complete", 4)
        assert await robot.refused("append", of=of, text="late") == "STREAM_ENDED"
        assert await robot.refused("append", text="nowhere") == "VALIDATION_ERROR"
        (message,) = (await robot("history", address=address))["messages"]
        assert (message["text"], message["state"], message["id"]) == ("forty-two!", "complete", of)
        other = (await robot("append", address=address))["of"]
        assert (await robot("append", of=other, end="aborted"))["state"] == "aborted"
        taken = (await robot("append", address=address, text="a"))["of"]
        adopted = await robot("append", of=taken, adopt=True)
        assert await robot.refused("append", of=taken, text="b", n=2) == "STREAM_LOST"
        assert (await robot("append", of=taken, text="b", n=2, token=adopted["token"]))["parts"] == 2


def test_the_newest_version_is_stateless(door: Door) -> None:
    answer = door.post(request("server/discover"))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert "mcp-session-id" not in answer.headers
    result = answer.json()["result"]
    assert result["supportedVersions"] == ["2026-07-28", "2025-11-25"]
    assert (result["resultType"], result["cacheScope"]) == ("complete", "public")
    server = {"name": "arqonbus", "title": "ArqonBus", "version": VERSION}
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"] == server
    listed = door.post(request("tools/list"), path="/mcp/").json()["result"]
    assert listed["tools"] == json.loads(json.dumps(tools.listed()))
    assert listed["ttlMs"] > 0


def test_a_handshake_is_answered_and_forgotten(door: Door) -> None:
    hello = {
        "jsonrpc": "2.0", "id": "h", "method": "initialize",
        "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    answer = door.post(hello, {"MCP-Protocol-Version": None})
    assert answer.json()["id"] == "h"
    assert answer.json()["result"]["protocolVersion"] == "2025-11-25"
    assert "mcp-session-id" not in answer.headers
    old = {"MCP-Protocol-Version": "2025-11-25"}
    done = door.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, old)
    assert (done.status_code, done.content) == (202, b"")
    assert door.post({"jsonrpc": "2.0", "id": 2, "method": "ping"}, old).json()["result"] == {}
    unknown = door.post({"jsonrpc": "2.0", "id": 3, "method": "resources/list"}, old)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (200, -32601)


@pytest.mark.parametrize("number", ["100000000000000000000", "-1", "9007199254740993", "1e999"])
def test_a_number_out_of_range_is_an_error_that_names_its_argument(door: Door, number: str) -> None:
    for tool, given, field in (("mark", '{"address": "a:b", "seq": %s}', "seq"),
                               ("wait_for_message", '{"address": "a:b", "mark": %s}', "mark"),
                               ("publish", '{"address": "a:b", "payload": {"deep": [%s]}}', "payload")):  # fmt: skip
        if tool == "publish" and number in ("-1", "9007199254740993"):
            continue
        body = json.dumps(request("tools/call", name=tool, arguments=None)).replace("null", given % number, 1)
        headers = {"Mcp-Method": "tools/call", "Mcp-Name": tool}
        result = door.post(body, headers).json()["result"]
        assert result["isError"] is True
        error = result["structuredContent"]["error"]
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", field)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (request("tools/list"), {"MCP-Protocol-Version": None}, 400, -32020),
        (request("tools/list"), {"Mcp-Method": "tools/call"}, 400, -32020),
        (request("tools/call", name="publish"), {"Mcp-Name": "history"}, 400, -32020),
        ({**request("ping"), "params": {}}, {"MCP-Protocol-Version": "1900-01-01"}, 400, -32022),
        (request("nothing/here"), {}, 404, -32601),
        (request("initialize"), {}, 404, -32601),
        (request("tools/list", cursor="x"), {}, 400, -32602),
        (request("tools/call", name="nothing"), {}, 400, -32602),
        (request("tools/call", name="join"), {}, 400, -32602),
        (request("tools/call", name=["publish"]), {"Mcp-Name": "publish"}, 400, -32020),
        ([request("tools/list")], {}, 400, -32600),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, {}, 400, -32600),
        (b"{", {}, 400, -32700),
        (b"", {}, 400, -32700),
        (b"\xff\xfe", {}, 400, -32700),
        (b"[" * 5000, {}, 400, -32700),
        (b'{"a":1e999}', {}, 400, -32700),
        (b'{"a":NaN}', {}, 400, -32700),
        (request("tools/list"), {"Content-Type": "text/plain"}, 415, 415),
        (request("tools/list"), {"Accept": "text/html"}, 406, 406),
        (request("tools/list"), {"Authorization": "Bearer wrong"}, 401, 401),
        (request("tools/list"), {"Authorization": "Basic eDp5"}, 401, 401),
        (request("tools/list"), {"Origin": "https://evil.example"}, 403, 403),
        (request("tools/list"), {"Origin": "null"}, 403, 403),
    ],
)  # fmt: skip
def test_wrong_requests_are_refused(
    door: Door, body: Any, headers: dict[str, str | None], status: int, code: int
) -> None:
    answer = door.post(body, headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="arqonbus"'


def test_a_body_that_is_too_long_is_refused(door: Door) -> None:
    answer = door.post(b'{"a":"' + b"x" * (17 * 1024 * 1024) + b'"}')
    assert (answer.status_code, answer.json()["error"]["data"]["code"]) == (413, "FRAME_TOO_LARGE")


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
def test_there_is_nothing_but_post(door: Door, method: str) -> None:
    answer = door.http.request(method, "/mcp")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")


def test_a_page_of_this_site_may_call(door: Door) -> None:
    assert door.post(request("tools/list"), {"Origin": str(door.http.base_url).rstrip("/")}).status_code == 200


def test_the_errors_of_a_tool_are_results_that_a_model_can_read(door: Door) -> None:
    answer = door.call("history", address="a:b", limit=501)
    assert answer.status_code == 200
    result = answer.json()["result"]
    assert result["isError"] is True
    assert result["content"][0]["text"].startswith(
        "VALIDATION_ERROR: Wrong arguments of history: Expected `int` <= 500"
    )
    assert result["structuredContent"]["error"]["details"][0]["field"] == "limit"
    inbox = door.call("wait_for_message", address="inbox", timeout_seconds=0).json()["result"]
    assert inbox["content"][0]["text"].startswith("FORBIDDEN: ")
    named = door.call("publish", {"Arqonbus-Client-Id": "me"}, address="a:b", text="x").json()["result"]
    assert named["content"][0]["text"].startswith("FORBIDDEN: ")


def test_the_trace_of_a_call_is_that_of_its_message(door: Door, shared_server: BusServer, fresh_room: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = request("tools/call", name="publish", arguments={"address": f"{fresh_room}:t", "text": "x"})
    for value in (trace, "nonsense", 3):
        asked["params"]["_meta"]["traceparent"] = value
        assert door.post(asked).json()["result"]["isError"] is False
    found = [shared_server.get_json(f"/api/v1/channels/{fresh_room}:t/messages/{seq}") for seq in (1, 2, 3)]
    assert [message.get("traceparent") for message in found] == [trace, None, None]


def test_a_server_for_identified_clients_says_who_issues_their_tokens(start_server: StartServer) -> None:
    server = start_server(
        env={
            "ARQONBUS_ANONYMOUS": "0",
            "ARQONBUS_JWT_KEY": "a-secret-of-thirty-two-characters",
            "ARQONBUS_JWT_ISSUER": "https://id.example",
            "ARQONBUS_JWT_AUDIENCE": "arqonbus",
            "ARQONBUS_JWT_SCOPE_CLAIM": "scope",
            "ARQONBUS_RATE_LIMIT": "3",
            "ARQONBUS_RATE_BURST": "3",
        }
    )
    token = server.create_token("robot")
    with Door(server) as door, Door(server, token) as known:
        _about_identity(server, door, known)


def _about_identity(server: BusServer, door: Door, known: Door) -> None:
    refused = door.post(request("tools/list"))
    assert (refused.status_code, refused.json()["error"]["data"]["code"]) == (401, "UNAUTHENTICATED")
    place = f"{server.http_url}/.well-known/oauth-protected-resource"
    assert refused.headers["WWW-Authenticate"] == f'Bearer realm="arqonbus", resource_metadata="{place}"'
    for path in ("", "/mcp"):
        about = door.http.get(f"/.well-known/oauth-protected-resource{path}").json()
        assert about["resource"] == f"{server.http_url}/mcp"
        assert about["authorization_servers"] == ["https://id.example"]
        assert "publish" in about["scopes_supported"]
    assert known.post(request("tools/list")).status_code == 200
    statuses = [known.post(request("tools/list")).status_code for _ in range(10)]
    assert 429 in statuses
    late = known.post(request("tools/list"))
    while late.status_code == 200:
        late = known.post(request("tools/list"))
    assert int(late.headers["Retry-After"]) >= 1
    assert late.json()["error"]["data"]["code"] == "RATE_LIMITED"


def test_without_an_issuer_there_is_no_document(door: Door) -> None:
    assert door.http.get("/.well-known/oauth-protected-resource").status_code == 404
    assert door.http.post("/.well-known/oauth-protected-resource").status_code == 405
