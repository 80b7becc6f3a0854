"""The benchmark runs, counts right, and says what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import build, servers
from bench.catalogue import all_workloads
from bench.contenders import Contender, Floor
from bench.docs import results
from bench.profile import stacks
from bench.report import BESIDE_PEERS, as_json, promise_lines, promises, table
from bench.runner import Run
from bench.workloads import Options, Workload, fan_out
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


class Named(Floor):
    """A contender of a given name; never started."""

    def __init__(self, key: str) -> None:
        self.key = self.title = key  # type: ignore[misc]


def measured(**costs: float) -> Run:
    """A run in which each contender had this cost per delivery, in two rounds of which one was half as dear again."""
    contenders: list[Contender] = [Named(key.replace("_", "-")) for key in costs]
    workload = Workload("fanout", "fan-out", "delivery", fan_out(1))
    run = Run([workload], contenders, {})
    for contender, cost in zip(contenders, costs.values(), strict=True):
        for factor in (1.0, 1.5, 1.0):
            result = {
                "unit_us": cost * factor,
                "rate": 1000.0,
                "server_share": 1.0,
                "generator_share": 0.5,
                "missing": 1,
            }
            run.rounds.setdefault((workload.key, contender.key), []).append(result)
    return run


def test_the_median_counts_and_what_should_be_zero_is_added_up() -> None:
    run = measured(bus_daphne=0.8)
    median = run.median("fanout", "bus-daphne")
    assert median is not None
    assert (median["unit_us"], median["missing"], median["spread"]) == (0.8, 3, [0.8, pytest.approx(1.2)])
    assert "3 missing" in table(run)


def test_promises_say_what_was_measured_whether_kept_or_not() -> None:
    kept = {
        promise.text: promise.kept
        for promise in promises(measured(bus_daphne=1.0, nats=2.0, centrifuge=1.1, textbook=250))
    }
    assert kept == {
        "fan-out 1→1,000: µs per delivery": True,
        "fan-out 1→1,000: at most 0.8 × Centrifuge's": False,
        "fan-out 1→1,000: at most 0.8 × NATS's": True,
        "fan-out 1→1,000: times cheaper than the textbook consumer": True,
    }
    assert "BROKEN  fan-out 1→1,000: at most 0.8 × Centrifuge's: 1.00 (at most 0.88)" in promise_lines(
        measured(bus_daphne=1.0, centrifuge=1.1)
    )


def test_every_promise_of_the_issue_has_its_workload() -> None:
    keys = {workload.key for workload in all_workloads()}
    assert {"fanout", "steady", "durable", "ephemeral", "history-memory", "history-database", "idle"} <= keys
    assert {f"members-{count}" for count in (10, 100, 1000, 5000)} <= keys
    assert {workload for workload, *_ in BESIDE_PEERS} | {"durable-wide"} <= keys


def test_stacks_are_counted_by_the_function_that_runs_and_by_those_that_called_it() -> None:
    own, total, number = stacks(
        "thread (1);main (a.py:1);send (b.py:7) 3\nmain (a.py:2) 1\nmain (a.py:1);send (b.py:9) 2\n"
    )
    assert number == 6
    assert own == {"send (b.py)": 5, "main (a.py)": 1}
    assert total == {"send (b.py)": 5, "main (a.py)": 6}


@pytest.mark.needs("gcc")
def test_the_load_generator_counts_every_delivery_of_the_floor(tmp_path: Path) -> None:
    floor = Floor()
    floor.prepare()
    server = floor.start(tmp_path)
    try:
        result = fan_out(20, 4)(floor, server, Options(seconds=0.2, quick=True))
    finally:
        server.kill()
    assert result is not None
    assert result["rate"] > 0
    assert (result["missing"], result["duplicates"], result["errors"]) == (0, 0, 0)
    assert result["p50"] <= result["p99"] <= result["p999"]
    assert result["generator_share"] > 0


@pytest.mark.needs("gcc")
def test_one_command_measures_and_leaves_a_table_json_and_a_plot(tmp_path: Path) -> None:
    command = ["-m", "bench", "--quick", "--only", "members-10,ephemeral", "--contenders", "bus-daphne,floor"]
    done = subprocess.run(
        [sys.executable, *command, "--seconds", "0.3", "--output", str(tmp_path)],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ArqonBus on daphne" in done.stdout
    data = json.loads((tmp_path / "latest.json").read_text())
    by_key = {workload["key"]: workload["contenders"] for workload in data["workloads"]}
    for workload in ("members-10", "ephemeral"):
        median = by_key[workload]["bus-daphne"]["median"]
        assert median["unit_us"] > 0
        assert (median["missing"], median["errors"], median["closed"]) == (0, 0, 0)
    assert (tmp_path / "latest.txt").read_text().strip() in done.stdout
    assert ElementTree.parse(tmp_path / "latest.svg").getroot().tag.endswith("svg")


def test_a_server_that_does_not_come_up_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(servers.ServerError, match="no such thing"):
        servers.start([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, 1, deadline=10)


def test_a_peer_that_cannot_be_had_is_a_reason_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(build.MissingError, match="not installed"):
        build._run(["surely-not-a-program"], "trying")


def test_the_results_become_a_page_with_each_contender_and_each_promise() -> None:
    run = measured(bus_daphne=1.0, centrifuge=1.1)
    facts = {"processor": "a processor", "cores": 2, "kernel": "6", "python": "3.11", "minutes": 1}
    page = results(as_json(run, facts, {"seconds": 2.0}))
    assert "| centrifuge | 1.10 | 1,000 |" in page
    assert "| fan-out 1→1,000: at most 0.8 × Centrifuge's | ≤ 0.88 | 1.00 | **not kept** |" in page
