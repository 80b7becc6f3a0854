"""Marks over restarts: who was away gets everything, in order, once, and at its first start none of the past."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

LETTERS = 200


class Agent:
    """An agent that marks the letters that it has dealt with. Its resume token is all that it keeps."""

    def __init__(self, name: str, token: str = "") -> None:
        self.name = name
        self.dealt_with: list[str] = []
        self._fields: dict[str, Any] = {"client_id": name, **({"token": token} if token else {})}
        self._client: WireClient

    async def start(self, server: BusServer, *, since: str | None = "mark") -> dict[str, Any]:
        """Connect. Returns the answer to the registration."""
        self._client = await WireClient.connect(server.url, **self._fields, since=since)
        self._fields["resume"] = {"token": self._client.registered["resume_token"]}
        return self._client.registered

    async def deal_with(self, count: int) -> None:
        """Deal with so many letters. Mark each tenth and the last one."""
        for letter in await self._client.expect_all(count, type="private", timeout=30):
            self.dealt_with.append(letter["message"])
            if len(self.dealt_with) % 10 == 0:
                await self._client.request("mark", room="pm", channel=self.name, seq=letter["seq"])

    async def nothing_came(self) -> bool:
        """Whether the connection brought no letter."""
        await self._client.ping()
        return self._client.messages(type="private") == []

    async def die(self) -> None:
        """End as a killed program does."""
        await self._client.cut()

    async def stop(self) -> None:
        """End in order."""
        await self._client.close()


async def _write(server: BusServer, agents: list[Agent], letters: range) -> list[str]:
    writer = await WireClient.connect(server.url)
    texts = [f"letter {n}" for n in letters]
    names = [agent.name for agent in agents]
    await asyncio.gather(*(writer.publish(text, type="private", to=names, ack=True) for text in texts))
    await writer.close()
    return texts


@pytest.mark.timeout(180)
async def test_an_agent_that_was_away_over_two_restarts_gets_every_letter_once(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server)
    token = await asyncio.to_thread(server.create_token, "agent")
    agents = [Agent("anonymous"), Agent("named", token)]
    for agent in agents:
        await agent.start(server, since=None)
        await agent.stop()
    await _write(server, agents, range(5))
    for agent in agents:
        # Its first start with a mark: the past is none of its business.
        told = await agent.start(server)
        assert told["channels"][f"pm:{agent.name}"]["mark"] == 5
        assert await agent.nothing_came()
        await agent.die()
    written = await _write(server, agents, range(LETTERS // 2))
    await asyncio.to_thread(server.restart, graceful=True)
    written += await _write(server, agents, range(LETTERS // 2, LETTERS))
    for agent in agents:
        await agent.start(server)
        await agent.deal_with(120)
        await agent.die()
    await asyncio.to_thread(server.restart)
    for agent in agents:
        await agent.start(server)
        await agent.deal_with(LETTERS - 120)
        await agent.stop()
        assert agent.dealt_with == written
        last = await agent.start(server)
        assert last["marks"][f"pm:{agent.name}"]["seq"] == LETTERS + 5
        assert await agent.nothing_came()
        await agent.stop()


@pytest.mark.cluster
async def test_marks_of_one_identity_in_two_processes_only_go_forward(start_server: StartServer) -> None:
    servers = await asyncio.gather(asyncio.to_thread(start_server), asyncio.to_thread(start_server))
    token = await asyncio.to_thread(servers[0].create_token, "agent")
    clients = [
        await WireClient.connect(server.url, token=token, client_id=f"c{n}", room="lab:bench", since="mark")
        for n, server in enumerate(servers)
    ]
    for n in range(60):
        await clients[0].publish(str(n), ack=True)
    await wait_for(lambda: len(clients[1].messages("lab:bench")) == 60, "all messages come")
    answers = await asyncio.gather(*(clients[n % 2].request("mark", seq=n) for n in range(1, 61)))
    assert all(answer["seq"] >= n for n, answer in enumerate(answers, 1))
    for client in clients:
        (row,) = (await client.request("list_channels", room="lab"))["channels"]
        assert row["unread"] == 0
        await client.close()
