"""The events of OpenAI Agents' streamed runs."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, RunConfig, Runner, function_tool, handoff
from agents.testing import ScriptedModel, assistant_message, function_call

from tests.clients_python.agents.collecting import (
    Slow,
    expect_that_a_cancelled_reader_ends_the_run,
    expect_that_a_reader_ends_the_run,
    parts,
    text,
    types,
)

pytestmark = pytest.mark.pure

ANSWER = "It is sunny in Rome"


@function_tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def told() -> Any:
    """The events of a run that calls a tool, hands over to another agent, and answers."""
    other = Agent(name="reporter", model=ScriptedModel([[assistant_message(ANSWER)]]))
    calls = [
        [function_call("weather", {"city": "Rome"}, call_id="c1")],
        [function_call("transfer_to_reporter", {}, call_id="c2")],
    ]
    agent = Agent(name="asker", model=ScriptedModel(calls), tools=[weather], handoffs=[handoff(other)])
    run = Runner.run_streamed(agent, "What is the weather?", run_config=RunConfig(tracing_disabled=True))
    return run.stream_events()


async def test_a_stream_of_text_gets_the_answer_once() -> None:
    assert "".join(await text(told())) == ANSWER


async def test_a_stream_of_parts_gets_agui_events() -> None:
    events = await parts(told())
    assert types(events)[:2] == ["RUN_STARTED", "STEP_STARTED"]
    assert types(events)[-4:] == ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert [part["stepName"] for part in events if part["type"] == "STEP_FINISHED"] == ["asker", "reporter"]
    calls = [(part["toolCallId"], part["toolCallName"]) for part in events if part["type"] == "TOOL_CALL_START"]
    assert calls == [("c1", "weather"), ("c2", "transfer_to_reporter")]
    assert "".join(part["delta"] for part in events if part["type"] == "TOOL_CALL_ARGS") == '{"city":"Rome"}{}'
    assert next(part["content"] for part in events if part["type"] == "TOOL_CALL_RESULT") == "sunny in Rome"
    assert "".join(part["delta"] for part in events if part["type"] == "TEXT_MESSAGE_CONTENT") == ANSWER


async def test_a_stop_ends_the_run() -> None:
    for check in (expect_that_a_reader_ends_the_run, expect_that_a_cancelled_reader_ends_the_run):
        slow = Slow()
        wait = function_tool(slow.do, name_override="wait", description_override="Wait.")
        model = ScriptedModel([[function_call("wait", {}, call_id="c1")], [assistant_message(ANSWER)]])
        run = Runner.run_streamed(
            Agent(name="asker", model=model, tools=[wait]), "Wait.", run_config=RunConfig(tracing_disabled=True)
        )
        await check(run.stream_events(), slow)
