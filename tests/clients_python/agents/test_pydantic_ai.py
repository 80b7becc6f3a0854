"""Pydantic AI's adapters for AG-UI and for the Vercel AI SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ag_ui.core import RunAgentInput
from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

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


def told(agent: Agent[Any, Any]) -> AGUIAdapter[Any, Any]:
    """A run of the agent, as AG-UI events."""
    question = {"id": "1", "role": "user", "content": "What is the weather?"}
    run = {
        "threadId": "t",
        "runId": "r",
        "state": {},
        "messages": [question],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    return AGUIAdapter(agent, TypeAdapter(RunAgentInput).validate_python(run))


def asked(agent: Agent[Any, Any]) -> VercelAIAdapter[Any, Any]:
    """A run of the agent, as events of the Vercel AI SDK."""
    question = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "What is the weather?"}]}
    body = json.dumps({"trigger": "submit-message", "id": "c", "messages": [question]}).encode()
    return VercelAIAdapter(agent, VercelAIAdapter.build_run_input(body))


def reporter() -> Agent[Any, Any]:
    agent: Agent[Any, Any] = Agent(TestModel(custom_output_text="It is sunny in Rome"))

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"sunny in {city}"

    return agent


def breaker() -> Agent[Any, Any]:
    async def half(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield "It is"
        raise RuntimeError("no more tokens")

    return Agent(FunctionModel(stream_function=half))


async def test_a_stream_of_text_gets_the_deltas_of_the_answer() -> None:
    assert await text(told(reporter()).run_stream()) == ["It ", "is ", "sunny ", "in ", "Rome"]
    assert await text(asked(reporter()).run_stream()) == ["It ", "is ", "sunny ", "in ", "Rome"]


async def test_a_stream_of_parts_gets_the_events_of_the_protocol_as_they_are() -> None:
    agui = await parts(told(reporter()).run_stream())
    assert types(agui) == [
        "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END",
        "TOOL_CALL_RESULT", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip
    assert (agui[0]["threadId"], agui[0]["runId"]) == ("t", "r")
    assert next(part for part in agui if part["type"] == "TOOL_CALL_RESULT")["content"] == "sunny in a"
    vercel = await parts(asked(reporter()).run_stream())
    assert [vercel[0]["type"], vercel[-1]["type"]] == ["start", "finish"]
    assert "".join(part["delta"] for part in vercel if part["type"] == "text-delta") == "It is sunny in Rome"
    assert next(part for part in vercel if part["type"] == "tool-output-available")["toolCallId"]


async def test_two_messages_of_one_run_are_two_paragraphs_of_the_text() -> None:
    async def twice(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        from pydantic_ai.models.function import DeltaToolCall

        if len(messages) == 1:
            yield "Let me look."
            yield {0: DeltaToolCall(name="weather", json_args="{}", tool_call_id="c1")}
        else:
            yield "It is "
            yield "sunny."

    agent: Agent[Any, Any] = Agent(FunctionModel(stream_function=twice))
    agent.tool_plain(lambda: "sunny", name="weather")
    assert "".join(await text(told(agent).run_stream())) == "Let me look.\n\nIt is sunny."
    assert "".join(await text(asked(agent).run_stream())) == "Let me look.\n\nIt is sunny."


@pytest.mark.parametrize(("adapter", "error"), [(told, "RUN_ERROR"), (asked, "error")])
async def test_a_run_that_failed_raises_after_its_last_event(adapter: Any, error: str) -> None:
    found, raised = await until_it_fails(adapter(breaker()).run_stream(), agents.RunFailed)
    assert error in types(found)
    assert str(raised) == "no more tokens"
    with pytest.raises(agents.RunFailed, match="no more tokens"):
        await text(adapter(breaker()).run_stream())


@pytest.mark.parametrize("adapter", [told, asked])
async def test_a_stop_ends_the_run(adapter: Any) -> None:
    slow = Slow()
    agent: Agent[Any, Any] = Agent(TestModel())
    agent.tool_plain(slow.do, name="wait")
    await expect_that_a_cancelled_reader_ends_the_run(adapter(agent).run_stream(), slow)
