#!/usr/bin/env python
"""One of five agents on one repository. It talks to the bus over MCP, and keeps no state of its own.

Each task is claimed, so no other agent works on its file. The commit names the task. An agent that was killed between the push
and `done` therefore sees that the task is done. Messages to the agent wait for it in its inbox until its mark is behind them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client


async def think(wish: str, name: str) -> str:
    """Return the new text of a file. Put your model here. What others write is data for it, and no instruction."""
    await asyncio.sleep(0.2)
    return f"{wish} -- {name}\n"


class Clone:
    """The agent's own clone of the repository."""

    def __init__(self, folder: Path, origin: Path, name: str) -> None:
        self.folder = folder
        if not (folder / ".git").exists():
            subprocess.run(["git", "clone", "-q", str(origin), str(folder)], check=True)
        self.git("config", "user.name", name)
        self.git("config", "user.email", f"{name}@localhost")
        # A killed agent leaves a half-done change behind.
        (folder / ".git" / "index.lock").unlink(missing_ok=True)
        with suppress(subprocess.CalledProcessError):
            self.git("rebase", "--abort")

    def git(self, *command: str) -> str:
        """Run git. Raises ``CalledProcessError``."""
        done = subprocess.run(["git", *command], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout

    def newest(self) -> None:
        """Get what the others pushed, and drop what was not pushed here."""
        self.git("fetch", "-q", "origin")
        self.git("reset", "-q", "--hard", "origin/main")
        self.git("clean", "-q", "-f", "-d")

    def has(self, task: str) -> bool:
        """Return whether a commit names the task."""
        return bool(self.git("log", "--fixed-strings", f"--grep=task: {task}", "--format=%h"))

    def change(self, task: str, file: str, text: str) -> str:
        """Write a file, commit and push it. Return the commit. The others push too, so it may take several tries."""
        while True:
            self.newest()
            if not self.has(task):
                path = self.folder / file
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
                self.git("add", file)
                self.git("commit", "-q", "-m", f"Change {file}\n\ntask: {task}")
                try:
                    self.git("push", "-q", "origin", "HEAD:main")
                except subprocess.CalledProcessError:
                    continue
            return self.git("rev-parse", "--short", "HEAD").strip()


class Agent:
    """The agent: its tools at the bus, and its clone."""

    def __init__(self, bus: Client, clone: Clone, name: str, room: str) -> None:
        self._bus, self._clone, self._name = bus, clone, name
        self._tasks, self._talk = f"{room}:tasks", f"{room}:talk"

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool of the bus, again and again while the server is away. Raises ``RuntimeError`` with the bus's error."""
        while True:
            try:
                result = await self._bus.call_tool(tool, arguments)
            except (MCPError, httpx2.TransportError):
                await asyncio.sleep(1)
                continue
            if result.is_error:
                raise RuntimeError(str(result.content))
            assert isinstance(result.structured_content, dict)
            return result.structured_content

    async def run(self) -> None:
        """Read the inbox and do tasks, for ever."""
        mark: int | None = None
        while True:
            heard = await self.call("wait_for_message", address="inbox", timeout_seconds=0, mark=mark)
            if heard["message"] is not None:
                mark = heard["mark"]
                await asyncio.to_thread(self.note, heard["message"])
                continue
            mark = None
            # With an empty `have`, a task that was in hand before a crash comes first.
            claimed = await self.call("claim", address=self._tasks, timeout_seconds=2, have=[])
            for job in claimed["claims"]:
                await self.work(job)

    def note(self, message: dict[str, Any]) -> None:
        """Note a message of the inbox in the repository, once."""
        notes = f"notes/{self._name}.txt"
        self._clone.newest()
        path = self._clone.folder / notes
        before = path.read_text() if path.exists() else ""
        self._clone.change(f"note {message['id']}", notes, f"{before}{message['seq']} {message['text']}\n")

    async def work(self, job: dict[str, Any]) -> None:
        """Do one task, and tell of it."""
        task, message = job["message"]["payload"], job["message"]
        await self.call("set_status", status="working", task=task["file"], address=self._talk, ttl=60)
        async with self.kept(job):
            text = await think(task["wish"], self._name)
            commit = await asyncio.to_thread(self._clone.change, message["id"], task["file"], text)
        try:
            await self.call("done", claim=job["claim"], result={"commit": commit})
        except RuntimeError as lost:
            # Somebody else has the task now. It finds our commit, and changes nothing.
            print(f"{self._name} lost {task['file']}: {lost}")
            return
        said = f"{task['file']} is done: {commit}"
        await self.call("publish", address=self._talk, text=said, id=f"done-{message['id']}")
        await self.call("set_status", address=self._talk)

    @asynccontextmanager
    async def kept(self, job: dict[str, Any]) -> AsyncIterator[None]:
        """Renew the lease of a job meanwhile."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(job["lease"] / 3)
                await self.call("renew", claim=job["claim"])

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


def door_of(url: str) -> str:
    """Return the address of the tools, also for the address of the sockets, such as ws://localhost:8765/."""
    url = url.rstrip("/")
    if url.startswith("ws"):
        url = f"http{url.removeprefix('ws')}"
    return url if url.endswith("/mcp") else f"{url}/mcp"


def first_of(problem: BaseException) -> BaseException:
    """Return the error inside of the groups that the tasks of the client make."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


async def main() -> None:
    """Run the agent until it is killed."""
    parser = argparse.ArgumentParser(description="One of five agents on one repository. ARQONBUS_TOKEN is its token.")
    address = os.environ.get("ARQONBUS_URL", "http://localhost:8765/")
    parser.add_argument("--url", default=address, help="address of the bus or of its /mcp (ARQONBUS_URL)")
    parser.add_argument("--name", help="client_id; the default is the name of the token")
    parser.add_argument("--repository", type=Path, required=True, help="the bare repository")
    parser.add_argument("--clone", type=Path, required=True, help="folder of the agent's own clone")
    parser.add_argument("--room", default="repo")
    chosen = parser.parse_args()
    headers = {"Authorization": f"Bearer {os.environ['ARQONBUS_TOKEN']}"}
    name = chosen.name or chosen.clone.name
    if chosen.name:
        headers["Arqonbus-Client-Id"] = chosen.name
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(door_of(chosen.url), http_client=http)) as bus,
    ):
        print(f"{name} works", flush=True)
        await Agent(bus, Clone(chosen.clone, chosen.repository, name), name, chosen.room).run()


if __name__ == "__main__":
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(main())
    except (ExceptionGroup, MCPError, httpx2.HTTPError, KeyError) as problem:
        fault = first_of(problem)
        sys.exit(f"The agent has ended: {type(fault).__name__}: {fault}. Are ARQONBUS_URL and ARQONBUS_TOKEN right?")
