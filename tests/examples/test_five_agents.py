"""Five agents on one repository: they are killed, they lose nothing, and a person watches."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import arqonbus
from tests.clients_python.conftest import client_environment
from tests.conftest import StartServer
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

# Claims and marks have tests of their own on both databases.
pytestmark = pytest.mark.embedded

EXAMPLE = PROJECT_ROOT / "examples" / "five_agents"
NAMES = ("one", "two", "three", "four", "five")
TASKS = 8


class Crew:
    """The agents, each a process."""

    def __init__(self, server: BusServer, folder: Path) -> None:
        self.repository = folder / "repository"
        self._folder = folder
        self.agents: dict[str, ManagedProcess] = {}
        for name in NAMES:
            command = [sys.executable, str(EXAMPLE / "agent.py"),
                       "--repository", str(self.repository), "--clone", str(folder / name)]  # fmt: skip
            env = client_environment(server) | {"ARQONBUS_TOKEN": server.create_token(name)}
            self.agents[name] = ManagedProcess(command, log_path=folder / f"{name}.log", env=env)

    def git(self, *command: str) -> str:
        return subprocess.run(["git", *command], cwd=self.repository, check=True, capture_output=True, text=True).stdout

    def has(self, name: str, text: str) -> bool:
        return self.file(name) == text

    def file(self, name: str) -> str:
        """The text of a file in the repository; empty if there is none."""
        there = name in self.git("ls-tree", "-r", "--name-only", "main").splitlines()
        return self.git("show", f"main:{name}") if there else ""


async def test_five_agents_change_each_file_once_and_hear_everything(start_server: StartServer, tmp_path: Path) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_CLAIM_GRACE": "1"})
    admin = await asyncio.to_thread(server.create_token, "person", admin=True)
    crew = await asyncio.to_thread(Crew, server, tmp_path)
    begin = [sys.executable, str(EXAMPLE / "begin.py"), "--token", admin, "--repository", str(crew.repository),
             "--tasks", str(TASKS), "--lease", "3"]  # fmt: skip
    env = client_environment(server)
    await asyncio.to_thread(subprocess.run, begin, env=env, check=True, capture_output=True, timeout=60)
    async with (
        arqonbus.connect(server.url, token=admin) as person,
        # The person sees what is done, and who works on what.
        person.subscribe("repo:talk", presence=True) as talk,
    ):
        done: dict[str, str] = {}
        working: set[str] = set()
        try:
            for agent in crew.agents.values():
                agent.start()
            while len(done) < TASKS:
                message = await talk.get(60)
                if message.event is None:
                    done[message.text.partition(" ")[0]] = message.sender
                elif message.event == "client_updated" and message.payload["status"] is not None:
                    working.add(message.payload["status"]["task"])
                if len(done) in (2, 5) and message.event is None:
                    # Whoever works now is killed in the middle of it.
                    victim = NAMES[len(done) % len(NAMES)]
                    crew.agents[victim].kill()
                    for n in range(5):
                        await person.private(victim, f"note {len(done)}.{n}")
                    crew.agents[victim].start()
            assert working <= {f"chapter-{n}.txt" for n in range(1, TASKS + 1)}
            assert working
            for victim, count in ((NAMES[2], 2), (NAMES[0], 5)):
                noted = "".join(f"{n + 1} note {count}.{n}\n" for n in range(5))
                await wait_for(partial(crew.has, f"notes/{victim}.txt", noted), "the notes are there")
        finally:
            for agent in crew.agents.values():
                agent.kill()
    subjects = crew.git("log", "--format=%s", "main").splitlines()
    for number in range(1, TASKS + 1):
        assert subjects.count(f"Change chapter-{number}.txt") == 1
        assert crew.file(f"chapter-{number}.txt").startswith(f"Write chapter {number}. -- ")
    for agent in crew.agents.values():
        assert "Traceback" not in agent.log()
    assert json.dumps(sorted(done)) == json.dumps(sorted(f"chapter-{n}.txt" for n in range(1, TASKS + 1)))


def test_an_agent_without_a_bus_ends_with_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(EXAMPLE / "agent.py"),
        "--repository",
        str(tmp_path),
        "--clone",
        str(tmp_path / "one"),
    ]
    env = client_environment(None) | {"ARQONBUS_TOKEN": "arq_tok_x", "ARQONBUS_URL": "ws://127.0.0.1:9/"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "ARQONBUS_URL" in line
