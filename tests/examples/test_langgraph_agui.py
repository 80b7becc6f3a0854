"""A LangGraph run in a stream of the bus, followed by the stock client of AG-UI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.clients_python.conftest import client_environment
from tests.harness import frameworks
from tests.harness.processes import PROJECT_ROOT, ManagedProcess
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

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
    env = client_environment(
        shared_server, PAUSE="0.02", ARQONBUS_HTTP=f"http://{shared_server.host}:{shared_server.port}"
    )
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
