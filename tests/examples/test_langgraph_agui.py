"""A LangGraph run in a stream of the bus, followed by the stock client of AG-UI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients_python.conftest import client_environment
from tests.harness import frameworks
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import free_port, wait_until

# What it says on the wire is the same with both back ends.
pytestmark = [pytest.mark.embedded, pytest.mark.needs("node")]

EXAMPLE = PROJECT_ROOT / "examples" / "langgraph_agui"
SHOWN = """\
[look_up {"thing":"kettle"}]
[kettle: kitchen, lower shelf]
The kettle is in the kitchen, on the lower shelf beside the window. It was last used this morning, for two cups of tea.
[finished]
"""


def test_the_client_comes_in_the_middle_and_after_the_end(
    shared_server: BusServer, fresh_room: str, tmp_path: Path
) -> None:
    env = client_environment(shared_server, PAUSE="0.02", BUS_HTTP=f"http://{shared_server.host}:{shared_server.port}")
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(frameworks.FOLDER)])
    running = ManagedProcess(
        [sys.executable, str(EXAMPLE / "answer.py"), "Where is the kettle?", "--channel", f"{fresh_room}:runs"],
        log_path=tmp_path / "answer.log",
        env=env,
    )

    def follow() -> ManagedProcess:
        count = len(list(tmp_path.glob("follow*")))
        program = ["node", str(EXAMPLE / "follow.mjs"), of]
        process = ManagedProcess(program, log_path=tmp_path / f"follow{count}.log", env=env)
        process.start()
        return process

    running.start()
    try:
        of = wait_until(lambda: next(iter(running.log().split()), ""), "the run says its name")
        assert of.startswith("arq_"), running.log()
        first = follow()
        wait_until(lambda: "The kettle" in first.log() or not first.alive, "the client shows the answer grow")
        running.freeze()
        first.kill()  # a closed tab
        assert "[finished]" not in first.log(), first.log()
        second = follow()
        wait_until(lambda: "The kettle" in second.log() or not second.alive, "the client is back in the middle")
        running.thaw()
        assert second.wait(60) == 0, second.log()
        assert second.log() == SHOWN
        assert running.wait(60) == 0, running.log()
        assert "complete after" in running.log()
    finally:
        running.kill()
    late = follow()
    assert late.wait(60) == 0, late.log()
    assert late.log() == SHOWN


def test_what_cannot_be_followed_is_one_line(shared_server: BusServer) -> None:
    bus, nobody = f"http://{shared_server.host}:{shared_server.port}", f"http://127.0.0.1:{free_port()}"

    def line(*arguments: str) -> str:
        program = ["node", str(EXAMPLE / "follow.mjs"), *arguments]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended
        return ended.stderr

    assert line().startswith("follow: usage: ")
    assert line("arq_nothing", bus) == f"follow: there is no stream arq_nothing at {bus}\n"
    assert line("arq_nothing", nobody).startswith(f"follow: the bus at {nobody} does not answer (")
