"""The agent, the sensors and the dashboard."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

import arqonbus
from tests.clients_python.conftest import client_environment
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

# What they say on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded

EXAMPLES = PROJECT_ROOT / "examples"
WAIT = 30.0


def agent(server: BusServer, room: str, folder: Path) -> ManagedProcess:
    """The agent, started and listening."""
    process = ManagedProcess(
        [sys.executable, str(EXAMPLES / "agent" / "agent.py"), "--name", f"bot-{room}", "--channel", f"{room}:talk",
         "--memory", str(folder / "agent.json")],
        log_path=folder / "agent.log",
        env=client_environment(server),
    )  # fmt: skip
    before = process.log().count("listens in")
    process.start()
    wait_until(lambda: process.log().count("listens in") > before or not process.alive, "the agent listens")
    assert process.alive, process.log()
    return process


async def test_the_agent_answers_each_question_once_also_if_it_is_killed(
    shared_server: BusServer, fresh_room: str, tmp_path: Path
) -> None:
    address, name = f"{fresh_room}:talk", f"bot-{fresh_room}"
    async with arqonbus.connect(shared_server.url) as bus, bus.subscribe(address) as messages:
        await bus.publish(address, "The kettle is in the kitchen.")
        process = await asyncio.to_thread(agent, shared_server, fresh_room, tmp_path)
        first = await bus.publish(address, f"@{name} where is the kettle?")
        answer = await messages.get(WAIT)
        assert first.seq == 2
        assert answer.text == f'{bus.client_id} said: "The kettle is in the kitchen."'
        assert (answer.sender, answer.payload["question"]) == (name, first.seq)
        assert answer.metadata["in_reply_to"] == first.id

        process.kill()
        last = await bus.publish(address, f"@{name} and the moon?")
        assert last.seq == 4
        # It had answered, and died before it could note that.
        memory = tmp_path / "agent.json"
        memory.write_text(json.dumps([first.seq - 1, json.loads(memory.read_text())[1]]))
        again = await asyncio.to_thread(agent, shared_server, fresh_room, tmp_path)
        try:
            assert (await messages.get(WAIT)).text == "Nobody has said anything about that here."
            wait_until(lambda: json.loads(memory.read_text())[0] >= last.seq, "all questions are dealt with")
        finally:
            again.kill()
        answers = [m.payload["question"] async for m in bus.history(address, sender=name)]
        assert answers == [first.seq, last.seq]


def test_the_dashboard_shows_what_the_sensors_read(shared_server: BusServer, fresh_room: str, tmp_path: Path) -> None:
    channel = ("--channel", f"{fresh_room}:readings")

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / "sensors" / program), *channel, *arguments],
            env=client_environment(shared_server),
            capture_output=True,
            text=True,
            timeout=60,
        )

    for name in ("kitchen", "garden"):
        done = run("sensor.py", "--name", name, "--every", "0.01", "--count", "3")
        assert done.returncode == 0, done.stderr
    board = run("dashboard.py", "--readings", "6")
    assert board.returncode == 0, board.stderr
    assert "6 readings" in board.stdout
    rows = [line.replace("│", " ").split() for line in board.stdout.splitlines() if "disk_used" in line]
    assert {(row[0], row[2]) for row in rows} >= {("kitchen", "3"), ("garden", "3")}
    assert all(0 < float(row[3]) <= 1 for row in rows if row[2] == "3")
    assert "--every" in run("sensor.py", "--help").stdout
