"""An agent is away while 200 private messages come, through restarts of the server and of itself: it gets all, in order, once."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.clients_python.conftest import client_environment
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.mcp.conftest import agent

Call = Callable[..., Awaitable[dict[str, Any]]]

WAIT = 20


@asynccontextmanager
async def over_http(server: BusServer, token: str) -> AsyncIterator[Call]:
    async with agent(server, token=token) as robot:
        yield robot


@asynccontextmanager
async def over_stdio(server: BusServer, token: str) -> AsyncIterator[Call]:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "arqonbus.mcp_server", "--client-id", "robot"],
        env=client_environment(server, ARQONBUS_TOKEN=token),
    )
    async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
        await session.initialize()

        async def call(tool: str, /, **arguments: Any) -> dict[str, Any]:
            result = await session.call_tool(tool, arguments)
            assert not result.is_error, result.content
            assert isinstance(result.structured_content, dict)
            return result.structured_content

        yield call


def send(server: BusServer, token: str, numbers: range) -> None:
    """Send a private message to the agent for each number."""
    messages = [{"type": "private", "to": ["robot"], "message": str(n), "id": f"n-{n}"} for n in numbers]
    headers = {"Authorization": f"Bearer {token}"}
    status, body = server.request("POST", "/api/v1/messages", {"messages": messages}, headers)
    assert status == 201, body


@pytest.mark.parametrize("door", [over_http, over_stdio], ids=["http", "stdio"])
async def test_an_agent_that_is_away_gets_everything_in_order_and_once(
    start_server: StartServer, door: Callable[[BusServer, str], Any]
) -> None:
    server = await asyncio.to_thread(start_server)
    human, token = [await asyncio.to_thread(server.create_token, name) for name in ("human", "robot")]
    old = {"message": "long ago"}
    bearer = {"Authorization": f"Bearer {human}"}
    assert (await asyncio.to_thread(server.request, "POST", "/api/v1/channels/lab:talk/messages", old, bearer))[
        0
    ] == 201
    heard: list[str] = []

    async def listen(call: Call, count: int) -> None:
        """Deal with some messages, and note the last one too."""
        mark = None
        for _ in range(count):
            found = await call("wait_for_message", address="inbox", timeout_seconds=WAIT, mark=mark)
            heard.append(found["message"]["text"])
            mark = found["mark"]
        if mark is not None:
            await call("mark", address="inbox", seq=mark)

    async with door(server, token) as call:
        for address in ("inbox", "lab:talk"):
            first = await call("wait_for_message", address=address, timeout_seconds=0)
            assert first["message"] is None
    await asyncio.to_thread(send, server, human, range(80))
    await asyncio.to_thread(server.restart)
    await asyncio.to_thread(send, server, human, range(80, 120))
    async with door(server, token) as call:
        await listen(call, 50)
        # The next one is given, and not dealt with: the agent is killed.
        assert (await call("wait_for_message", address="inbox", timeout_seconds=WAIT))["message"]["text"] == "50"
    await asyncio.to_thread(lambda: server.restart(graceful=True))
    await asyncio.to_thread(send, server, human, range(120, 200))
    async with door(server, token) as call:
        await listen(call, 150)
        nothing = await call("wait_for_message", address="inbox", timeout_seconds=0)
        assert nothing["message"] is None
    assert json.dumps(heard) == json.dumps([str(n) for n in range(200)])
