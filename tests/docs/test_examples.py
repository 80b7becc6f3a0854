"""The code of the pages runs as it stands there, against a real server.

A fence in python, js, sh or json is run, or read, whole; `localhost:8765` is the test's server. A comment line before it says
what is special: `<!-- run until: TEXT -->` (it goes on for ever, and has to print that), `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from arqonbus import sync
from tests.clients_python.conftest import client_environment
from tests.harness import frameworks
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

# The pages speak of what a newcomer starts.
pytestmark = pytest.mark.embedded

PAGES = [
    "README.md",
    "docs/quickstart.md",
    "docs/how-to.md",
    "docs/llm-answers.md",
    "docs/agents.md",
    "docs/decisions.md",
    "docs/scaling.md",
    "docs/clients.md",
    "clients/python/README.md",
]
_FENCE = re.compile(
    r"(?:^[ ]*<!-- (?P<mark>[^\n]*?) -->\n)?^(?P<indent>[ ]*)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fence of a page."""

    page: str
    line: int
    language: str
    mark: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    """The fences of the pages in these languages."""
    found = []
    for page in PAGES:
        text = (PROJECT_ROOT / page).read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start("code"))
                found.append(Block(page, line, match["language"], match["mark"] or "", textwrap.dedent(match["code"])))
    return found


def run_block(block: Block, server: BusServer, folder: Path, command: list[str], code: str) -> None:
    """Run it in a process of its own, to its end or until it has printed what it is said to print."""
    file = folder / "block"
    file.write_text(code.replace("localhost:8765", f"{server.host}:{server.port}"), encoding="utf-8")
    env = client_environment(server, PATH=f"{folder}:{os.environ['PATH']}")
    if "ARQONBUS_TOKEN" in block.code:
        env["ARQONBUS_TOKEN"] = server.create_token("a reader of the docs", admin=True)
    env["PYTHONPATH"] += f"{os.pathsep}{frameworks.FOLDER}"
    if block.mark.startswith("run until: "):
        wanted = block.mark.removeprefix("run until: ")
        process = ManagedProcess(
            [*command, str(file)], log_path=folder / "output", env={**env, "PYTHONUNBUFFERED": "1"}
        )
        process.start()
        try:
            wait_until(lambda: wanted in process.log() or not process.alive, f"{block} prints {wanted!r}")
            assert wanted in process.log(), process.log()
        finally:
            process.kill()
        return
    done = subprocess.run([*command, str(file)], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{block}\n{code}\n{done.stdout}{done.stderr}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the command `arqonbus` in it."""
    script = tmp_path / "arqonbus"
    script.write_text(f"#!{sys.executable}\nfrom arqonbus.__main__ import main\nmain()\n")
    script.chmod(0o755)
    return tmp_path


@pytest.fixture
def said_before(shared_server: BusServer) -> None:
    """Something to listen to for the examples that read what was said before."""
    with sync.connect(shared_server.url) as bus:
        bus.publish("science:explore", "hello")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, shared_server: BusServer, folder: Path, said_before: None) -> None:
    compile(block.code, str(block), "exec")
    if not block.mark.startswith("not run"):
        run_block(block, shared_server, folder, [sys.executable], block.code)


@pytest.mark.parametrize("block", blocks("sh", "bash"), ids=str)
def test_shell_runs(block: Block, shared_server: BusServer, folder: Path, said_before: None) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    if not block.mark.startswith("not run"):
        # A refused curl has to fail the example.
        code = "set -euo pipefail\n" + re.sub(r"(?m)^curl\b", "curl --fail-with-body --silent --show-error", block.code)
        run_block(block, shared_server, folder, ["bash"], code)


@pytest.mark.needs("node")
@pytest.mark.parametrize("block", blocks("js"), ids=str)
def test_javascript_runs(block: Block, shared_server: BusServer, folder: Path) -> None:
    node = shutil.which("node")
    assert node is not None
    # It never ends by itself: the socket stays open. What it logs is what the server answers.
    mark = block.mark if block.mark.startswith("run until: ") else "run until: registered"
    until = Block(block.page, block.line, block.language, mark, block.code)
    run_block(until, shared_server, folder, [node, "--experimental-websocket"], block.code)


@pytest.mark.pure
@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.code)
