"""The messages of MCP: which requests are read, which are refused and with which code, and the form of the answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.mcp import protocol
from bus.mcp.protocol import HANDSHAKE, STATELESS, Refused, Request

pytestmark = pytest.mark.pure

META = {protocol.VERSION_KEY: STATELESS, protocol.CAPABILITIES_KEY: {}}
HEADERS = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": "publish"}


def call(**changes: Any) -> dict[str, Any]:
    """A request of the newest version."""
    params = {"name": "publish", "arguments": {}, "_meta": META}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params} | changes


def refused(data: Any, headers: dict[str, str]) -> Refused:
    with pytest.raises(Refused) as problem:
        protocol.read(data, headers)
    return problem.value


def test_both_versions_are_read() -> None:
    asked = protocol.read(call(), HEADERS)
    assert asked == Request(7, "tools/call", call()["params"], STATELESS)
    assert asked is not None
    assert asked.stateless
    assert asked.meta == META
    legacy = protocol.read(call(id="a", params={"name": "publish"}), {"MCP-Protocol-Version": HANDSHAKE})
    assert legacy == Request("a", "tools/call", {"name": "publish"}, HANDSHAKE)
    assert legacy is not None
    assert legacy.meta == {}
    # Nobody knows the versions of a server before this one.
    for headers in ({}, {"MCP-Protocol-Version": "2024-11-05"}):
        hello = protocol.read({"jsonrpc": "2.0", "id": 0, "method": "initialize"}, headers)
        assert hello == Request(0, "initialize", {}, HANDSHAKE)


@pytest.mark.parametrize("name", ["publish", "=?base64?cHVibGlzaA==?="])
def test_the_name_may_be_encoded(name: str) -> None:
    assert protocol.read(call(), HEADERS | {"Mcp-Name": name}) is not None


def test_notifications_need_no_answer() -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
    for headers in ({}, {"MCP-Protocol-Version": STATELESS}, {"MCP-Protocol-Version": HANDSHAKE}):
        assert protocol.read(note, headers) is None
    assert refused(note, {"MCP-Protocol-Version": "1900-01-01"}).code == -32022


@pytest.mark.parametrize(
    "data",
    [
        [],
        [call()],
        "text",
        None,
        {},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": 3},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        call(id=None),
        call(id=True),
        call(id=1.5),
        call(id={}),
    ],
)
def test_what_is_no_single_request_is_refused(data: Any) -> None:
    problem = refused(data, HEADERS)
    assert (problem.status, problem.code) == (400, -32600)


def test_the_refusal_repeats_the_id() -> None:
    problem = refused(call(params=[]), HEADERS)
    assert (problem.code, json.loads(problem.body())["id"]) == (-32602, 7)
    assert json.loads(refused([], {}).body()) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32600, "message": "The body must be one JSON-RPC request. Send a batch one by one."},
    }


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"MCP-Protocol-Version": None}, "MCP-Protocol-Version is missing"),
        ({"MCP-Protocol-Version": HANDSHAKE}, "MCP-Protocol-Version does not match"),
        ({"MCP-Protocol-Version": "1900-01-01"}, "MCP-Protocol-Version does not match"),
        ({"Mcp-Method": None}, "Mcp-Method is missing"),
        ({"Mcp-Method": "tools/list"}, "Mcp-Method does not match"),
        ({"Mcp-Method": "tools/call, tools/call"}, "Mcp-Method does not match"),
        ({"Mcp-Name": None}, "Mcp-Name is missing"),
        ({"Mcp-Name": "history"}, "Mcp-Name does not match"),
        ({"Mcp-Name": "=?base64?%%%?="}, "Mcp-Name is missing"),
        ({"Mcp-Name": "=?base64?/w==?="}, "Mcp-Name is missing"),
        ({"Mcp-Name": "=?base64?="}, "Mcp-Name does not match"),
    ],
)
def test_headers_must_say_what_the_body_says(changes: dict[str, str | None], part: str) -> None:
    headers = {key: value for key, value in (HEADERS | changes).items() if value is not None}
    problem = refused(call(), headers)
    assert (problem.status, problem.code) == (400, -32020)
    assert part in problem.message


def test_an_unknown_version_is_told_ours() -> None:
    other = "2030-01-01"
    meta = META | {protocol.VERSION_KEY: other}
    for data, headers in (
        (call(params={"name": "publish", "_meta": meta}), HEADERS | {"MCP-Protocol-Version": other}),
        (call(params={"name": "publish"}), {"MCP-Protocol-Version": other}),
    ):
        problem = refused(data, headers)
        assert (problem.status, problem.code) == (400, -32022)
        assert problem.data == {"supported": [STATELESS, HANDSHAKE], "requested": other}
    assert "2025-11-25" in refused(call(params={}), {}).message


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        {protocol.VERSION_KEY: STATELESS},
        {protocol.CAPABILITIES_KEY: {}},
        META | {protocol.CAPABILITIES_KEY: None},
        META | {protocol.VERSION_KEY: 3},
    ],
)
def test_each_request_says_who_asks(meta: Any) -> None:
    problem = refused(call(params={"name": "publish", "_meta": meta}), HEADERS)
    assert (problem.status, problem.code) == (400, -32602)


def test_answers_have_the_form_of_their_version() -> None:
    server = {"name": "arqonbus", "version": "1"}
    new, old = Request(1, "tools/list", {}, STATELESS), Request(1, "tools/list", {}, HANDSHAKE)
    assert json.loads(new.result({"tools": []}, server, kept=True))["result"] == {
        "resultType": "complete",
        "tools": [],
        "_meta": {protocol.SERVER_KEY: server},
        "ttlMs": protocol.KEPT,
        "cacheScope": "public",
    }
    assert json.loads(old.result({"tools": []}, server, kept=True)) == {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"tools": []},
    }
    assert (new.refused(-32601, "x", status=404).status, old.refused(-32601, "x", status=404).status) == (404, 200)
