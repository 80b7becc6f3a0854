"""What agent frameworks stop for, decided by a person on a real bus."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import arqonbus
from arqonbus import errors
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

# What a person decides is the same with both back ends.
pytestmark = pytest.mark.embedded

FRAMEWORKS = ["pydantic_ai", "langgraph", "openai_agents", "agui"]
#: The frameworks in which a person may change the arguments, and those in which a person may answer with words.
EDITS, WORDS = {"pydantic_ai", "langgraph", "agui"}, {"pydantic_ai", "langgraph", "openai_agents"}


class Desk:
    """An agent's client and a person's client, with a channel between them."""

    def __init__(self, agent: arqonbus.Bus, person: arqonbus.Bus, room: str) -> None:
        self.agent, self.person = agent, person
        self.address = f"{room}:approvals"

    async def run(self, framework: str, answer: Any, **given: Any) -> str:
        """Run a framework to its end, while the person gives one answer. Returns what the run ends with."""

        async def ask(adapter: Callable[..., Awaitable[Any]], stopped: Any) -> Any:
            return await adapter(self.agent, self.address, stopped, timeout=30)

        # The framework is imported when it is needed.
        runs = importlib.import_module("tests.clients_python.agents.human_runs")
        running = asyncio.ensure_future(getattr(runs, framework)(ask))
        rows: list[arqonbus.Decision] = []

        async def asked() -> bool:
            rows[:] = [row async for row in self.person.list_decisions(self.address, to_decide=True)]
            return bool(rows) or running.done()

        await wait_for(asked, f"{framework} asks")
        if rows:
            assert (rows[0].action, rows[0].asked_args) == ("refund", {"amount": 20})
            await self.person.decide(rows[0], answer, **given)
        said: str = await running
        with pytest.raises((errors.AlreadyUsed, errors.ValidationFailed)):
            await self.agent.consume_decision(rows[0])
        return said


@pytest.fixture
async def desk(shared_server: BusServer, admin_token: str, fresh_room: str) -> AsyncIterator[Desk]:
    """The two clients."""
    async with (
        arqonbus.connect(shared_server.url) as agent,
        arqonbus.connect(shared_server.url, token=admin_token) as person,
    ):
        yield Desk(agent, person, fresh_room)


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_run_goes_on_with_what_a_person_decided(framework: str, desk: Desk) -> None:
    if framework in EDITS:
        assert await desk.run(framework, "edit", args={"amount": 15}) == "refunded 15"
    else:
        assert await desk.run(framework, "approve") == "refunded 20"


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_a_no_or_words_are_what_the_run_reads(framework: str, desk: Desk) -> None:
    if framework in WORDS:
        said = await desk.run(framework, "respond", comment="Ask Mia first.")
    else:
        said = await desk.run(framework, "reject", comment="Ask Mia first.")
    assert said == "Ask Mia first."
