"""Workers of a work channel as processes, to be frozen and killed: `python -m tests.harness.worker CONFIG`.

A worker comes back whatever happens to the servers, keeps its claims, and repeats a `done` whose answer it did not get.
What a job's payload says decides what happens to it: `poison` (the worker gives it up), `stall` (it holds the job until SIGUSR1).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.harness.backends import clean_environment
from tests.harness.client import WireClient, WireError
from tests.harness.member import AGAIN
from tests.harness.processes import ManagedProcess

#: What says that a server is not there, or that the connection has ended.
_GONE = (OSError, ConnectionClosed, WebSocketException, AssertionError, TimeoutError)


class WorkerProcess:
    """A worker that can be killed. `urls` are the servers; it begins with the first one."""

    def __init__(self, folder: Path, name: str, urls: Sequence[str], room: str, channel: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        config = {"name": name, "urls": list(urls), "room": room, "channel": channel}
        self.process = ManagedProcess(
            [sys.executable, "-m", "tests.harness.worker", json.dumps(config)],
            log_path=folder / f"{name}.log",
            env=clean_environment(),
        )

    def start(self) -> WorkerProcess:
        """Start it, without waiting."""
        self.process.start()
        return self

    def go_on(self) -> None:
        """Let it end the jobs on which it stalls."""
        self.process.send_signal(signal.SIGUSR1)

    def events(self, event: str) -> list[dict[str, Any]]:
        """What it said so far: `claimed`, `done`, `lost`, `returned`."""
        lines = [
            json.loads(line) for line in self.process.log().splitlines() if line.startswith("{") and line.endswith("}")
        ]
        return [line for line in lines if line["event"] == event]


class _Program:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.where = {"room": config["room"], "channel": config["channel"]}
        self.client: WireClient | None = None
        self.go_on = asyncio.Event()
        self._turn = 0

    def say(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    async def connected(self) -> WireClient:
        """The connection, made anew where it has ended."""
        while self.client is None or self.client.closed:
            url = self.config["urls"][self._turn % len(self.config["urls"])]
            before = self.client
            resume: dict[str, Any] = {}
            if before is not None and before.registered:
                resume = {"resume": {"token": before.registered["resume_token"], "positions": {}}}
            try:
                self.client = await WireClient.connect(
                    url, client_id=self.config["name"], room="lab:door", timeout=20, **resume
                )
            except _GONE:
                self._turn += 1
                await asyncio.sleep(0.05)
        return self.client

    async def ask(self, command: str, **parameters: Any) -> dict[str, Any] | None:
        """The result of a command; None where the connection ended before. Raises WireError for a refusal that stays."""
        client = await self.connected()
        try:
            return await client.request(command, timeout=40, **parameters)
        except WireError as refused:
            if refused.code not in AGAIN:
                raise
            await asyncio.sleep(0.05)
        except _GONE:
            # A new client: the old one kept all frames of its life.
            await client.close()
        return None

    async def run(self) -> None:
        """Work for ever."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.go_on.set)
        known: WireClient | None = None
        while True:
            client = await self.connected()
            # On a new connection: the answer to the last claim may have been lost. All claims of this worker are new to it then.
            have: dict[str, Any] = {"have": []} if client is not known else {}
            got = await self.ask("claim", **self.where, max=1, wait=5, **have)
            if got is not None:
                known = client
                for job in got["claims"]:
                    await self.work(job)
            client.received.clear()

    async def work(self, job: dict[str, Any]) -> None:
        """Do one job, and say what became of it."""
        payload, claim = job["message"]["payload"], job["claim"]
        told = {"seq": job["message"]["seq"], "attempt": job["attempt"], "claim": claim}
        self.say("claimed", **told)
        if payload.get("stall"):
            await self.go_on.wait()
        what = (
            ("release", {"error": "poison"})
            if payload.get("poison")
            else ("done", {"result": {"by": self.config["name"]}})
        )
        while True:
            try:
                answer = await self.ask(what[0], claim=claim, **what[1])
            except WireError as refused:
                self.say("lost", **told, code=refused.code, details=refused.details)
                return
            if answer is not None:
                self.say("returned" if payload.get("poison") else "done", **told, state=answer["state"])
                return


def main() -> None:
    """Run one worker: `{name, urls, room, channel}`. SIGUSR1 lets it end stalled jobs. It prints one JSON object a line."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_Program(json.loads(sys.argv[1])).run())


if __name__ == "__main__":
    main()
