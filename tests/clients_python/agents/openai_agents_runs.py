"""Runs of OpenAI Agents with its scripted model."""

from __future__ import annotations

from typing import Any

from agents import Agent, RunConfig, Runner, function_tool, handoff
from agents.testing import ScriptedModel, assistant_message, function_call

from tests.clients_python.agents.collecting import Slow

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


def waiting(slow: Slow) -> Any:
    """The events of a run whose tool never returns."""
    wait = function_tool(slow.do, name_override="wait", description_override="Wait.")
    model = ScriptedModel([[function_call("wait", {}, call_id="c1")], [assistant_message(ANSWER)]])
    agent = Agent(name="asker", model=model, tools=[wait])
    return Runner.run_streamed(agent, "Wait.", run_config=RunConfig(tracing_disabled=True)).stream_events()
