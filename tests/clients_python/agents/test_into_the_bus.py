"""Runs of each framework, piped into a stream of a real bus, and a stop request."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

import pytest

import arqonbus
from tests.clients_python.agents.collecting import Slow
from tests.harness.server import BusServer

# What is piped is the same with both back ends.
pytestmark = pytest.mark.embedded

ANSWER = "It is sunny in Rome"
FRAMEWORKS = ["pydantic_ai", "vercel", "langgraph", "openai_agents"]


def runs(framework: str) -> Any:
    """The runs of a framework, which is imported when they are needed."""
    return importlib.import_module(f"tests.clients_python.agents.{framework}_runs")


def events(framework: str) -> Any:
    """The events of a run whose answer is `ANSWER`."""
    if framework == "langgraph":
        made = runs(framework)
        return made.graph().astream(made.QUESTION, stream_mode=["updates", "messages"])
    if framework == "openai_agents":
        return runs(framework).told()
    made = runs("pydantic_ai")
    return (made.asked if framework == "vercel" else made.told)(made.reporter()).run_stream()


@pytest.mark.parametrize("framework", FRAMEWORKS)
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
            await out.pipe(events(framework))
        answer = await messages.get(30)
        await answer.ended()
        assert (answer.text, answer.state) == (ANSWER, "complete")
        async with bus.stream(address, mode="parts") as out:
            await out.pipe(events(framework))
        kept = (await bus.history_page(address)).messages
        assert [message.state for message in kept] == ["complete", "complete"]
        deltas = [part["delta"] for part in kept[1].parts if part["type"] in ("TEXT_MESSAGE_CONTENT", "text-delta")]
        assert "".join(deltas) == ANSWER


async def test_a_stop_request_ends_the_run_and_the_message(shared_server: BusServer, fresh_room: str) -> None:
    slow = Slow()
    async with arqonbus.connect(shared_server.url) as bus, arqonbus.connect(shared_server.url) as other:

        async def own() -> arqonbus.Stream:
            async with bus.stream(f"{fresh_room}:answers", run=fresh_room) as out:
                await out.pipe(runs("openai_agents").waiting(slow))
            return out

        owner = asyncio.ensure_future(own())
        async with asyncio.timeout(30):
            await slow.begun.wait()
            await other.stop_stream(f"arq_{fresh_room}")
            assert (await owner).state == "stopped"
            await slow.ended.wait()
