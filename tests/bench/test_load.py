"""The load generator's scenario: its bounds are said, and never crossed."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from bench import build

pytestmark = [pytest.mark.pure, pytest.mark.needs("gcc")]


def run(*lines: str) -> subprocess.CompletedProcess[str]:
    """Run a scenario that connects to nothing."""
    scenario = "\n".join(("mode idle", "seconds 0", "warmup 0", *lines, ""))
    program = str(build.c_program("load"))
    return subprocess.run([program], input=scenario, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("number", [16, 17, 64])
def test_every_process_of_the_server_is_counted(number: int) -> None:
    one = json.loads(run(f"server_pid {os.getpid()}").stdout)["rss_after_kib"]
    all_of_them = json.loads(run(*[f"server_pid {os.getpid()}"] * number).stdout)["rss_after_kib"]
    assert all_of_them == pytest.approx(number * one, rel=0.05)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["server_pid 1"] * 65, "more than 64 server processes"),
        (["group a", *["hello x"] * 9], "more than 8 greetings in group a"),
        (["group a", "expect x"], "group a expects an answer before its first greeting"),
        (["group a"] * 9, "more than 8 groups"),
        (["mode lively"], "unknown mode lively"),
        (["colour blue"], "unknown key colour"),
        (["group a", "count 1", "base 20000"], "more than 20000 channels"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(lines: list[str], why: str) -> None:
    done = run(*lines)
    assert (done.returncode, done.stderr) == (2, f"load: {why}\n")


def test_as_many_greetings_as_there_is_room_for_are_taken() -> None:
    assert run("group a", *["hello x", "expect y"] * 8).returncode == 0
