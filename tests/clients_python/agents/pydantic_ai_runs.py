"""Runs of Pydantic AI with its test models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import RunAgentInput
from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

from tests.clients_python.agents.collecting import Slow


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


def talker() -> Agent[Any, Any]:
    """An agent that says something before it calls a tool, and something after that."""

    async def twice(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) == 1:
            yield "Let me look."
            yield {0: DeltaToolCall(name="weather", json_args="{}", tool_call_id="c1")}
        else:
            yield "It is "
            yield "sunny."

    agent: Agent[Any, Any] = Agent(FunctionModel(stream_function=twice))
    agent.tool_plain(lambda: "sunny", name="weather")
    return agent


def waiter(slow: Slow) -> Agent[Any, Any]:
    """An agent whose tool never returns."""
    agent: Agent[Any, Any] = Agent(TestModel())
    agent.tool_plain(slow.do, name="wait")
    return agent
