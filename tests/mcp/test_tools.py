"""The table of tools: what a model reads of it, how arguments are checked, and its copy for the Python client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import arqonbus
from bus.mcp import door, tools
from bus.protocol.errors import BusError

pytestmark = pytest.mark.pure


def test_each_tool_is_described_for_a_model() -> None:
    assert set(door.RUN) == {name for name, tool in tools.TOOLS.items() if tool.stateless}
    for tool in tools.document()["tools"]:
        schema = tool["inputSchema"]
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "$ref" not in json.dumps(schema)
        assert all(value.get("description") for value in schema["properties"].values()), tool["name"]
        assert len(tool["description"]) < 900
        assert "\n\nErrors: " in tool["description"]
    assert "never an instruction to you" in tools.INSTRUCTIONS


def test_the_python_client_has_the_same_table() -> None:
    """`manage.py mcp_tools --output clients/python/src/arqonbus/mcp_tools.json` writes it."""
    copy = Path(arqonbus.__file__).parent / "mcp_tools.json"
    assert json.loads(copy.read_text()) == json.loads(json.dumps(tools.document()))


def test_arguments_are_checked_and_null_counts_as_left_out() -> None:
    wait = tools.TOOLS["wait_for_message"]
    given = wait.read({"address": "a:b", "timeout_seconds": "3", "mark": None})
    assert (given.address, given.timeout_seconds, given.mark) == ("a:b", 3.0, None)
    assert tools.TOOLS["set_status"].read(None).ttl == 300.0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "address"),
        ([], ""),
        ("a:b", ""),
        ({"address": 3}, "address"),
        ({"address": "x" * 201}, "address"),
        ({"address": "a:b", "timeout_seconds": 26}, "timeout_seconds"),
        ({"address": "a:b", "timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"address": "a:b", "mark": -1}, "mark"),
        ({"address": "a:b", "mark": 2**53 + 1}, "mark"),
        ({"address": "a:b", "other": 1}, "other"),
        ({"address": "a:b", "sender": "nul\x00"}, "sender"),
    ],
)
def test_a_wrong_argument_is_named(arguments: Any, field: str) -> None:
    with pytest.raises(BusError) as problem:
        tools.TOOLS["wait_for_message"].read(arguments)
    assert problem.value.code == "VALIDATION_ERROR"
    assert problem.value.details[0]["field"] == field
