"""The official client of MCP at the door of real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

from bus.mcp.protocol import CAPABILITIES_KEY, STATELESS, VERSION_KEY
from tests.harness.server import BusServer

#: Most seconds of a request in these tests.
WAIT = 60.0


class Agent:
    """An agent's side of the door: each call is a tool of the bus."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def __call__(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The result of a tool. Raises AssertionError with its error."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        (content,) = result.content
        assert isinstance(content, TextContent)
        assert json.loads(content.text) == result.structured_content
        return result.structured_content

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        """The code of a tool's error, which its text begins with."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        assert isinstance(result.structured_content, dict)
        (content,) = result.content
        assert isinstance(content, TextContent)
        code: str = result.structured_content["error"]["code"]
        assert content.text.startswith(f"{code}: ")
        return code


class RoundRobin(httpx2.AsyncBaseTransport):
    """Sends each request to the next of several servers, as a balancer without stickiness does."""

    def __init__(self, servers: list[BusServer]) -> None:
        self._servers = servers
        self._inner = httpx2.AsyncHTTPTransport()
        self.sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        server = self._servers[self.sent % len(self._servers)]
        self.sent += 1
        request.url = request.url.copy_with(host=server.host, port=server.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def agent(
    *servers: BusServer, token: str | None = None, client_id: str | None = None, mode: str = "auto"
) -> AsyncIterator[Agent]:
    """The official client, with one identity, at one server or at several in turn."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if client_id is not None:
        headers["Arqonbus-Client-Id"] = client_id
    transport = RoundRobin(list(servers))
    async with (
        httpx2.AsyncClient(headers=headers, timeout=WAIT, transport=transport) as http,
        Client(streamable_http_client(f"{servers[0].http_url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield Agent(client)


class Door:
    """The door without a client: raw requests of the newest version."""

    def __init__(self, server: BusServer, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=server.http_url, headers=headers, timeout=WAIT, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.http.close()

    def post(self, body: Any, headers: Mapping[str, str | None] | None = None, path: str = "/mcp") -> httpx.Response:
        """POST a body. A header that is None is left out."""
        usual: dict[str, str | None] = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": STATELESS,
        }
        if isinstance(body, dict) and isinstance(body.get("method"), str):
            usual["Mcp-Method"] = body["method"]
            usual["Mcp-Name"] = body.get("params", {}).get("name") if isinstance(body.get("params"), dict) else None
        given = {key: value for key, value in (usual | dict(headers or {})).items() if isinstance(value, str)}
        content = body if isinstance(body, (bytes, str)) else json.dumps(body)
        return self.http.post(path, content=content, headers=given)

    def call(self, tool: str, headers: Mapping[str, str | None] | None = None, /, **arguments: Any) -> httpx.Response:
        """Call a tool."""
        return self.post(request("tools/call", name=tool, arguments=arguments), headers)


def request(method: str, **params: Any) -> dict[str, Any]:
    """A request of the newest version."""
    meta = {VERSION_KEY: STATELESS, CAPABILITIES_KEY: {}}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
