"""An agent of the Python client is away while private messages come, through restarts of the server and the agent."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import arqonbus
from arqonbus import Backoff
from tests.clients_python.conftest import client_environment
from tests.conftest import StartServer
from tests.harness.waiting import wait_for

WAIT = 60.0
MESSAGES = 200

# An agent that writes down what it gets before it asks for the next message.
AGENT = """
import asyncio, arqonbus, os

async def main():
    url = os.environ["ARQONBUS_URL"]
    async with arqonbus.connect(url, client_id="agent", identity="agent.identity", wait=30) as bus:
        async with bus.inbox(since="mark", auto_mark=True) as inbox:
            open("ready", "w").close()
            async for message in inbox:
                with open("seen", "a") as file:
                    print(message.seq, message.text, file=file, flush=True)

asyncio.run(main())
"""


async def test_an_agent_gets_all_that_came_while_it_was_away(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(env={"ARQONBUS_RETRY_SPREAD": "0.2"})
    ready, seen = tmp_path / "ready", tmp_path / "seen"
    seen.touch()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", AGENT], cwd=tmp_path, env=client_environment(server))

    async def agent() -> subprocess.Popen[bytes]:
        ready.unlink(missing_ok=True)
        process = start()
        await wait_for(ready.exists, "the agent listens", deadline=WAIT)
        return process

    def rows() -> list[str]:
        # Without the last line, which may be half written.
        return seen.read_text().splitlines() if seen.read_text().endswith("\n") else seen.read_text().splitlines()[:-1]

    async def read(number: int) -> None:
        await wait_for(lambda: len(set(rows())) >= number, f"{number} messages are there", deadline=WAIT)

    async with arqonbus.connect(server.url, client_id="agent", identity=tmp_path / "agent.identity"):
        pass
    quick = Backoff(first=0.05, most=0.5)
    async with arqonbus.connect(server.url, client_id="speaker", backoff=quick) as speaker:
        await speaker.private("agent", "of the past")
        process = await agent()
        await speaker.private("agent", "0")
        await read(1)
        process.send_signal(signal.SIGINT)
        process.wait(WAIT)
        for number in range(1, MESSAGES):
            if number == MESSAGES // 3:
                await asyncio.to_thread(server.restart)
            await speaker.private("agent", str(number))
        process = await agent()
        await read(MESSAGES // 2)
        process.kill()
        process.wait()
        await asyncio.to_thread(server.restart, graceful=True)
        process = await agent()
        await read(MESSAGES)
        process.send_signal(signal.SIGINT)
        process.wait(WAIT)
    texts = [row.split()[1] for row in rows()]
    # A kill may repeat what the agent did just before, since its mark was on its way. Nothing else comes twice.
    assert list(dict.fromkeys(texts)) == [str(number) for number in range(MESSAGES)]
