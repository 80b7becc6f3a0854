"""The events of OpenAI Agents' streamed runs."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.clients_python.agents.collecting import (
    Slow,
    expect_that_a_cancelled_reader_ends_the_run,
    expect_that_a_reader_ends_the_run,
    parts,
    text,
    types,
)

pytestmark = pytest.mark.pure


@pytest.fixture(scope="module")
def runs() -> Any:
    """The runs. Only the process that runs these tests imports the framework."""
    return importlib.import_module("tests.clients_python.agents.openai_agents_runs")


async def test_a_stream_of_text_gets_the_answer_once(runs: Any) -> None:
    assert "".join(await text(runs.told())) == runs.ANSWER


async def test_a_stream_of_parts_gets_agui_events(runs: Any) -> None:
    events = await parts(runs.told())
    assert types(events)[:2] == ["RUN_STARTED", "STEP_STARTED"]
    assert types(events)[-4:] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert [part["stepName"] for part in events if part["type"] == "STEP_FINISHED"] == ["asker", "reporter"]
    calls = [(part["toolCallId"], part["toolCallName"]) for part in events if part["type"] == "TOOL_CALL_START"]
    assert calls == [("c1", "weather"), ("c2", "transfer_to_reporter")]
    assert "".join(part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS") == '{"city":"Rome"}{}'
    assert next(part["content"] for part in events if part["type"] == "TOOL_CALL_RESULT") == "sunny in Rome"
    assert "".join(part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT") == runs.ANSWER


async def test_a_stop_ends_the_run(runs: Any) -> None:
    for check in (expect_that_a_reader_ends_the_run, expect_that_a_cancelled_reader_ends_the_run):
        slow = Slow()
        await check(runs.waiting(slow), slow)
