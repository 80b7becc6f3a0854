"""Runs of each framework, piped into a stream of a real bus, and a stop request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable

import pytest
from agents import Agent, RunConfig, Runner, function_tool
from agents.testing import ScriptedModel, function_call

import arqonbus
from tests.clients_python.agents import test_langgraph, test_openai_agents, test_pydantic_ai
from tests.clients_python.agents.collecting import Slow
from tests.harness.server import BusServer

# What is piped is the same with both back ends.
pytestmark = pytest.mark.embedded

ANSWER = "It is sunny in Rome"
RUNS: dict[str, Callable[[], AsyncIterable[object]]] = {
    "pydantic-ai": lambda: test_pydantic_ai.told(test_pydantic_ai.reporter()).run_stream(),
    "pydantic-ai-vercel": lambda: test_pydantic_ai.asked(test_pydantic_ai.reporter()).run_stream(),
    "langgraph": lambda: test_langgraph.graph().astream(test_langgraph.QUESTION, stream_mode=["updates", "messages"]),
    "openai-agents": lambda: test_openai_agents.told(),
}


@pytest.mark.parametrize("framework", RUNS)
async def test_readers_and_the_history_have_the_answer(
    framework: str, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:answers"
    async with (
        arqonbus.connect(shared_server.url) as bus,
        arqonbus.connect(shared_server.url) as reader,
        reader.subscribe(address) as messages,
    ):
        async with bus.stream(address) as out:
            await out.pipe(RUNS[framework]())
        answer = await messages.get(30)
        await answer.ended()
        assert (answer.text, answer.state) == (ANSWER, "complete")
        async with bus.stream(address, mode="parts") as out:
            await out.pipe(RUNS[framework]())
        kept = (await bus.history_page(address)).messages
        assert [message.state for message in kept] == ["complete", "complete"]
        deltas = [part["delta"] for part in kept[1].parts if part["type"] in ("TEXT_MESSAGE_CONTENT", "text-delta")]
        assert "".join(deltas) == ANSWER


async def test_a_stop_request_ends_the_run_and_the_message(shared_server: BusServer, fresh_room: str) -> None:
    slow = Slow()
    wait = function_tool(slow.do, name_override="wait", description_override="Wait.")
    agent = Agent(name="asker", model=ScriptedModel([[function_call("wait", {}, call_id="c1")]]), tools=[wait])
    async with arqonbus.connect(shared_server.url) as bus, arqonbus.connect(shared_server.url) as other:

        async def own() -> arqonbus.Stream:
            async with bus.stream(f"{fresh_room}:answers", run=fresh_room) as out:
                run = Runner.run_streamed(agent, "Wait.", run_config=RunConfig(tracing_disabled=True))
                await out.pipe(run.stream_events())
            return out

        owner = asyncio.ensure_future(own())
        async with asyncio.timeout(30):
            await slow.begun.wait()
            await other.stop_stream(f"arq_{fresh_room}")
            assert (await owner).state == "stopped"
            await slow.ended.wait()
