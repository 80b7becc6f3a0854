"""Pydantic AI's adapters for AG-UI and for the Vercel AI SDK."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from arqonbus import agents
from tests.clients_python.agents.collecting import (
    Slow,
    expect_that_a_cancelled_reader_ends_the_run,
    parts,
    text,
    types,
    until_it_fails,
)

pytestmark = pytest.mark.pure


@pytest.fixture(scope="module")
def runs() -> Any:
    """The runs. Only the process that runs these tests imports the framework."""
    return importlib.import_module("tests.clients_python.agents.pydantic_ai_runs")


async def test_a_stream_of_text_gets_the_deltas_of_the_answer(runs: Any) -> None:
    assert await text(runs.told(runs.reporter()).run_stream()) == ["It ", "is ", "sunny ", "in ", "Rome"]
    assert await text(runs.asked(runs.reporter()).run_stream()) == ["It ", "is ", "sunny ", "in ", "Rome"]


async def test_a_stream_of_parts_gets_the_events_of_the_protocol_as_they_are(runs: Any) -> None:
    agui = await parts(runs.told(runs.reporter()).run_stream())
    assert types(agui) == [
        "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END",
        "TOOL_CALL_RESULT", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip
    assert (agui[0]["threadId"], agui[0]["runId"]) == ("t", "r")
    assert next(part for part in agui if part["type"] == "TOOL_CALL_RESULT")["content"] == "sunny in a"
    vercel = await parts(runs.asked(runs.reporter()).run_stream())
    assert [vercel[0]["type"], vercel[-1]["type"]] == ["start", "finish"]
    assert "".join(part["delta"] for part in vercel if part["type"] == "text-delta") == "It is sunny in Rome"
    assert next(part for part in vercel if part["type"] == "tool-output-available")["toolCallId"]


async def test_two_messages_of_one_run_are_two_paragraphs_of_the_text(runs: Any) -> None:
    assert "".join(await text(runs.told(runs.talker()).run_stream())) == "Let me look.\n\nIt is sunny."
    assert "".join(await text(runs.asked(runs.talker()).run_stream())) == "Let me look.\n\nIt is sunny."


@pytest.mark.parametrize(("adapter", "error"), [("told", "RUN_ERROR"), ("asked", "error")])
async def test_a_run_that_failed_raises_after_its_last_event(runs: Any, adapter: str, error: str) -> None:
    run = getattr(runs, adapter)
    found, raised = await until_it_fails(run(runs.breaker()).run_stream(), agents.RunFailed)
    assert error in types(found)
    assert str(raised) == "no more tokens"
    with pytest.raises(agents.RunFailed, match="no more tokens"):
        await text(run(runs.breaker()).run_stream())


@pytest.mark.parametrize("adapter", ["told", "asked"])
async def test_a_stop_ends_the_run(runs: Any, adapter: str) -> None:
    slow = Slow()
    await expect_that_a_cancelled_reader_ends_the_run(getattr(runs, adapter)(runs.waiter(slow)).run_stream(), slow)
