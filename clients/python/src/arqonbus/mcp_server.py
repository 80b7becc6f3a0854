"""An MCP server (stdio) for agents: an ordinary client of the bus with the tools of ``POST /mcp``, from the same table.

Start it with ``arqonbus-mcp --url ws://localhost:8765/ --client-id my-agent``. The values can also come from ARQONBUS_URL,
ARQONBUS_TOKEN, ARQONBUS_CLIENT_ID, ARQONBUS_ROOM and ARQONBUS_IDENTITY. It needs the package ``mcp`` (the extra ``[mcp]``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp import MCPError
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from ._version import __version__
from .mcp_agent import Agent
from .mcp_calls import Calls
from .mcp_table import Refused, Table


def make_server(agent: Agent) -> Server[Any]:
    """Create the MCP server with its tools."""
    table, calls = Table(), Calls(agent)

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            calls.close()
            await agent.close()

    async def list_tools(context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=table.tools)

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        if params.name not in table:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:64]}")
        try:
            given = table.read(params.name, params.arguments)
            result = await calls.find(params.name)(**given)
        except Refused as problem:
            error = {"code": problem.code, "message": problem.message, "details": problem.details}
            text = f"{problem} {json.dumps(problem.details)}" if problem.details else str(problem)
            return _result({"error": error}, text, is_error=True)
        return _result(result, json.dumps(result, ensure_ascii=False), is_error=False)

    return Server(
        "arqonbus",
        version=__version__,
        instructions=table.instructions,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _result(content: dict[str, Any], text: str, *, is_error: bool) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=content, is_error=is_error)


async def serve(agent: Agent) -> None:
    """Serve on the standard streams until the host closes them."""
    server = make_server(agent)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command ``arqonbus-mcp``."""
    environment = os.environ
    parser = argparse.ArgumentParser(
        prog="arqonbus-mcp",
        description="MCP server (stdio) that connects an agent to an ArqonBus. An MCP host starts it.",
        epilog="ARQONBUS_TOKEN is the access token, if the bus needs one.",
    )
    parser.add_argument(
        "--url", default=environment.get("ARQONBUS_URL", "ws://localhost:8765/"), help="URL of the bus (ARQONBUS_URL)"
    )
    parser.add_argument(
        "--client-id", default=environment.get("ARQONBUS_CLIENT_ID"), help="client_id of the agent (ARQONBUS_CLIENT_ID)"
    )
    parser.add_argument(
        "--identity",
        default=environment.get("ARQONBUS_IDENTITY"),
        metavar="FILE",
        help="file with the agent's identity, so that its inbox survives a restart (ARQONBUS_IDENTITY)",
    )
    parser.add_argument("--room", default=environment.get("ARQONBUS_ROOM"), help="initial channel (ARQONBUS_ROOM)")
    parser.add_argument("--version", action="version", version=__version__)
    chosen = parser.parse_args(arguments)
    # Standard output belongs to the protocol. The token comes only from the environment, since all users can see arguments.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    # The SDK waits for a thread that reads standard input, so Ctrl+C would not end the process. The bus sees the close.
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    if sys.stdin.isatty():
        sys.stderr.write("Waiting for an MCP host on standard input. Press Ctrl+C to stop.\n")
    agent = Agent(chosen.url, environment.get("ARQONBUS_TOKEN"), chosen.client_id, chosen.room, chosen.identity)
    asyncio.run(serve(agent))


if __name__ == "__main__":
    main()
