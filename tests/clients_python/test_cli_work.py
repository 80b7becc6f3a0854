"""`arqonbus work` runs a program for each job, and `arqonbus jobs` shows the queue."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arqonbus import sync
from arqonbus.cli.programs import result_of
from tests.clients_python.conftest import Cli, client_environment, start_cli
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until

WAIT = 30.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded

PROGRAM = """
import json, os, sys, time
message = json.load(sys.stdin)
text = os.environ["ARQONBUS_JOB_TEXT"]
assert message["message"] == text
if text == "fail":
    print("first line", file=sys.stderr)
    sys.exit("there is none")
if text == "wait":
    print(os.getpid(), flush=True, file=open("pid", "w"))
    time.sleep(600)
if text == "child":
    import subprocess
    subprocess.Popen(["sleep", "60"])
if text == "much":
    print("x" * 400_000)
if text == "null":
    sys.exit(print(json.dumps("\\0")))
print(json.dumps({"said": text, "attempt": int(os.environ["ARQONBUS_JOB_ATTEMPT"]), "seq": message["seq"]}))
"""


@pytest.fixture
def boss(shared_server: BusServer, admin_token: str) -> Iterator[sync.Bus]:
    """A client that makes work channels, publishes jobs and follows them."""
    with sync.connect(shared_server.url, token=admin_token) as bus:
        yield bus


def program(tmp_path: Path) -> list[str]:
    """The program of the jobs."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, "program.py"]


def queue(boss: sync.Bus, address: str, **wanted: int) -> dict[str, Any]:
    """Wait until the queue has these numbers."""
    seen: dict[str, Any] = {}

    def so() -> bool:
        seen.update(boss.jobs(address))
        return all(seen[name] == value for name, value in wanted.items())

    wait_until(so, f"{address} has {wanted}", deadline=WAIT)
    return seen


def test_a_program_does_the_jobs(cli: Cli, boss: sync.Bus, fresh_room: str, tmp_path: Path, admin_token: str) -> None:
    address = f"{fresh_room}:new"
    missing = cli("work", address, "--", *program(tmp_path))
    assert (missing.returncode, "There is no channel" in missing.stderr) == (5, True)
    boss.create_channel(address, work={"attempts": 1})
    for text in ("one", "fail", "much", "child"):
        boss.publish(address, text)
    done = cli("work", "--create", address, "-n", "4", "--json", "--", *program(tmp_path), ARQONBUS_TOKEN=admin_token)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["seq"], row["state"]) for row in rows] == [(1, "done"), (2, "dead"), (3, "dead"), (4, "done")]
    assert "first line\nthere is none\n" in done.stderr
    assert "Traceback" not in done.stderr
    dead = queue(boss, address, dead_count=2, ready=0)["dead"]
    errors = [row["errors"][0]["error"] for row in dead]
    assert errors[0] == "there is none"
    assert "The result has more than" in errors[1]
    shown = cli("jobs", address)
    assert (shown.returncode, "there is none" in shown.stdout) == (0, True)
    again = cli("jobs", address, "--retry", "2", "--discard", "3", "--json", ARQONBUS_TOKEN=admin_token)
    told = json.loads(again.stdout)
    assert (told["ready"], told["dead_count"]) == (1, 0)
    timed = cli(
        "work", address, "-n", "1", "--timeout", "0.1", "--", sys.executable, "-c", "import time; time.sleep(60)"
    )
    assert timed.returncode == 0
    assert queue(boss, address, dead_count=1)["dead"][0]["errors"][-1]["error"] == "The program took longer than 0.1 s."


def test_a_result_that_no_server_takes_runs_no_second_time(
    cli: Cli, boss: sync.Bus, fresh_room: str, tmp_path: Path
) -> None:
    address = f"{fresh_room}:new"
    boss.create_channel(address, work=True)
    for text in ("much", "null"):
        boss.publish(address, text)
    done = cli("work", address, "-n", "2", "--json", "--", *program(tmp_path))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["state"], row["attempt"]) for row in rows] == [("dead", 1), ("dead", 1)], done.stderr
    assert "The result has more than" in rows[0]["error"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_end_of_the_worker_gives_its_job_back(
    boss: sync.Bus, shared_server: BusServer, fresh_room: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    address = f"{fresh_room}:new"
    boss.create_channel(address, work=True)
    boss.publish(address, "wait")
    environment = client_environment(shared_server)
    with start_cli("work", address, "--", *program(tmp_path), env=environment, cwd=tmp_path) as worker:
        wait_until((tmp_path / "pid").exists, "the program runs", deadline=WAIT)
        wait_until(lambda: (tmp_path / "pid").read_text().strip(), "the program runs", deadline=WAIT)
        pid = int((tmp_path / "pid").read_text())
        worker.send_signal(number)
        _, problem = worker.communicate(timeout=WAIT)
        assert worker.returncode == code, problem
    assert "Traceback" not in problem
    assert boss.jobs(address)["ready"] == 1, "it is back at once"
    assert not Path(f"/proc/{pid}").exists(), "the program has ended"


def test_wrong_usage_says_what_is_right(cli: Cli, boss: sync.Bus, fresh_room: str) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done: subprocess.CompletedProcess[str] = cli(*arguments)
        return done.returncode, done.stderr

    code, problem = run("work", f"{fresh_room}:new", "--", "no-such-program")
    assert (code, "no-such-program" in problem) == (2, True)
    code, problem = run("work", fresh_room, "--", "true")
    assert (code, "names no channel" in problem) == (2, True)
    boss.create_channel(f"{fresh_room}:plain")
    code, problem = run("work", f"{fresh_room}:plain", "--", "true")
    assert (code, "--create" in problem) == (1, True)


@pytest.mark.pure
def test_standard_output_is_json_or_text_or_nothing() -> None:
    assert [
        result_of(output) for output in (b"", b" \n", b"42\n", b'{"a": [1]}', b"two words\n", b"NaN", b"\xff", b"a\0b")
    ] == [
        None, None, 42, {"a": [1]}, "two words", "NaN", "\ufffd", "a\ufffdb",
    ]  # fmt: skip
