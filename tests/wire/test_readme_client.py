"""The first README's JavaScript client works unchanged, with a client that speaks v1 and one in plain Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright
from websockets.asyncio.client import connect

from tests.conftest import Connect
from tests.harness.browser import launching
from tests.harness.client import WireClient
from tests.harness.server import BusServer

SOURCE = Path(__file__).with_name("readme_client.mjs")

# What node runs: the client, its frames on standard output, and a line of standard input sent as a frame.
RUNNER = """
import { createInterface } from "node:readline";
const { start } = await import(process.argv[1]);
const ws = start(process.argv[2], process.argv[3], (frame) => console.log(JSON.stringify(frame)));
createInterface({ input: process.stdin }).on("line", (line) => ws.send(line)).on("close", () => ws.close());
"""


async def _with_the_others(
    server: BusServer, wire: Connect, room: str, ada: asyncio.Queue[dict[str, Any]], say: Any
) -> None:
    """The conversation of three: Ada's client of the README, a v1 client, and one in plain Python."""
    seen: list[dict[str, Any]] = []

    async def hear(**wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(15):
            while True:
                frame = await ada.get()
                seen.append(frame)
                if all(frame.get(key) == value for key, value in wanted.items()):
                    return frame

    assert (await hear(type="system"))["payload"]["event"] == "welcome"
    registered = (await hear(type="system"))["payload"]
    assert registered["event"] == "registered"
    assert (registered["client_id"], registered["client_type"]) == (f"readme-{room}", "human")
    assert (registered["room"], registered["channel"]) == (room, "explore")

    v1: WireClient = await wire(server, dialect="v1", client_id=f"v1-{room}", room=f"{room}:explore", since=0)
    hello = await v1.expect("event", message="Hello, science!")
    assert (hello["from"], hello["seq"], hello["version"]) == (f"readme-{room}", 1, "1.0")
    joined = (await hear(type="system"))["payload"]
    assert (joined["event"], joined["client_id"]) == ("client_joined", f"v1-{room}")

    async with connect(server.url, proxy=None) as plain:
        await plain.send(json.dumps({"client_id": f"py-{room}", "client_type": "service", "room": f"{room}:explore"}))
        await v1.publish("Hello from v1", room=room, channel="explore", ack=True)
        assert (await hear(message="Hello from v1"))["payload"] == {"message": "Hello from v1"}
        await plain.send(
            json.dumps({"type": "event", "room": room, "channel": "explore", "message": "Hello from Python"})
        )
        assert (await hear(message="Hello from Python"))["from"] == f"py-{room}"
        await v1.expect("event", message="Hello from Python")
        await say({"type": "message", "room": room, "channel": "explore", "message": "Welcome, both"})
        await v1.expect("event", message="Welcome, both")
        async with asyncio.timeout(15):
            async for raw in plain:
                if json.loads(raw).get("message") == "Welcome, both":
                    break
        await say({"type": "command", "command": "channel_info", "room": room, "channel": "explore"})
        answer = await hear(type="command_response")
        people = {row["client_id"]: row for row in answer["result"]["participants"]}
        assert set(people) == {f"readme-{room}", f"v1-{room}", f"py-{room}"}
        assert (people[f"readme-{room}"]["screen_name"], people[f"readme-{room}"]["avatar"]) == ("Ada", "🔬")
        await say({"type": "private", "to": [f"v1-{room}"], "message": "psst"})
        assert (await v1.expect("private"))["message"] == "psst"
    assert not [frame for frame in seen if frame["type"] == "error"]


@pytest.mark.needs("node")
async def test_it_works_in_node(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "node",
        "--experimental-websocket",
        "--input-type=module",
        "--eval",
        RUNNER,
        SOURCE.as_uri(),
        shared_server.url,
        fresh_room,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=2**20,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    reading = asyncio.create_task(_pass_on(process.stdout, frames))

    async def say(frame: dict[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(frame).encode() + b"\n")
        await process.stdin.drain()

    try:
        await _with_the_others(shared_server, wire, fresh_room, frames, say)
        process.stdin.close()
        async with asyncio.timeout(15):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await reading


async def _pass_on(lines: asyncio.StreamReader, frames: asyncio.Queue[dict[str, Any]]) -> None:
    async for line in lines:
        await frames.put(json.loads(line))


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    """An empty page of a real Chromium."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**launching())
        yield await browser.new_page()
        await browser.close()


@pytest.mark.browser
async def test_it_works_in_a_browser(shared_server: BusServer, wire: Connect, fresh_room: str, page: Any) -> None:
    frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    await page.expose_function("report", frames.put_nowait)
    # A page of the server itself, as the README's reader would have it.
    await page.goto(f"{shared_server.http_url}/health")
    script = SOURCE.read_text().replace("export function", "function")
    await page.evaluate(
        f"{script}; window.ws = start({json.dumps(shared_server.url)}, {json.dumps(fresh_room)}, window.report); null"
    )

    async def say(frame: dict[str, Any]) -> None:
        await page.evaluate("(text) => window.ws.send(text)", json.dumps(frame))

    await _with_the_others(shared_server, wire, fresh_room, frames, say)
