"""Run the workloads in rounds. Every contender has its turn in each round, and each round starts with another one."""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from bench import build, machine
from bench.contenders import BusFiles, Contender, all_contenders, make_bus_files
from bench.servers import Server, ServerError
from bench.workloads import Options, Result, RunFailedError, Workload


@dataclass
class Run:
    """All results of one run."""

    workloads: list[Workload]
    contenders: list[Contender]
    missing: dict[str, str]
    #: (workload, contender) → the results of the rounds.
    rounds: dict[tuple[str, str], list[Result]] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def median(self, workload: str, contender: str) -> Result | None:
        """Return each figure's median over the rounds. Counters that should be zero are added up."""
        results = self.rounds.get((workload, contender))
        if not results:
            return None
        merged: Result = {}
        for key in results[-1]:
            values = [result[key] for result in results if isinstance(result.get(key), (int, float))]
            if key in ("missing", "behind", "duplicates", "errors", "closed"):
                merged[key] = sum(values)
            elif values:
                merged[key] = statistics.median(values)
            else:
                merged[key] = results[-1][key]
        costs = [result["unit_us"] for result in results if result.get("unit_us") is not None]
        merged["spread"] = [min(costs), max(costs)] if costs else None
        merged["rounds"] = len(results)
        return merged


class Runner:
    """Starts servers when they are needed, keeps each for one round, and stops all of them."""

    def __init__(self, options: Options, rounds: int, say: Callable[[str], None], *, asked: bool = False) -> None:
        """``asked`` says that the contenders were chosen by name, so all of them take part."""
        self._options = options
        self._rounds = rounds
        self._say = say
        self._asked = asked
        self._folder = Path(tempfile.mkdtemp(prefix="arqonbus-bench-"))
        self._files: BusFiles | build.MissingError | None = None
        self._servers: dict[str, Server] = {}
        self._count = 0

    def bus_files(self) -> BusFiles:
        """Return the prepared database, created once. Raises :class:`bench.build.MissingError`."""
        if self._files is None:
            folder = self._folder / "template"
            folder.mkdir()
            try:
                self._files = make_bus_files(folder)
            except build.MissingError as reason:
                self._files = reason
        if isinstance(self._files, build.MissingError):
            raise self._files
        return self._files

    def contenders(self) -> list[Contender]:
        """Return every contender, installed or not."""
        return all_contenders(self.bus_files)

    def measure(self, workloads: list[Workload], contenders: list[Contender]) -> Run:
        """Run all rounds of all workloads. Failures are noted, not raised. Ctrl+C ends the run with the results so far."""
        missing = {contender.key: reason for contender in contenders if (reason := self._missing(contender))}
        run = Run(workloads, contenders, missing)
        present = [contender for contender in contenders if contender.key not in missing]
        try:
            self._rounds_of(run, workloads, present)
        except KeyboardInterrupt:
            self._say("stopped: the table shows the results so far")
        return run

    def _rounds_of(self, run: Run, workloads: list[Workload], present: list[Contender]) -> None:
        for number in range(self._rounds):
            for place, workload in enumerate(workloads):
                taking_part = [
                    contender
                    for contender in present
                    if (contender.key in workload.only if workload.only else contender.everywhere or self._asked)
                ]
                shift = (number + place) % len(taking_part) if taking_part else 0
                for contender in taking_part[shift:] + taking_part[:shift]:
                    self._once(run, workload, contender, number)
            self._stop_all()

    def close(self) -> None:
        """Stop all servers and delete the files."""
        self._stop_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _missing(self, contender: Contender) -> str | None:
        if contender.role == "bus":
            try:
                self.bus_files()
            except build.MissingError as reason:
                return str(reason)
        return contender.missing()

    def _once(self, run: Run, workload: Workload, contender: Contender, number: int) -> None:
        key = (workload.key, contender.key)
        if key in run.failures:
            return
        began = time.monotonic()
        server: Server | None = None
        try:
            server = self._start(contender) if workload.fresh else self._server(contender)
            result = workload.run(contender, server, self._options)
        except (RunFailedError, ServerError, RuntimeError, OSError, TimeoutError, WebSocketException) as problem:
            run.failures[key] = f"{problem}"
            self._say(f"round {number + 1}  {workload.key:16} {contender.title:36} FAILED: {run.failures[key]}")
            self._discard(contender)
            return
        finally:
            if server is not None and workload.fresh:
                server.kill()
                shutil.rmtree(server.folder, ignore_errors=True)
        if result is None:
            return
        run.rounds.setdefault(key, []).append(result)
        taken = f"[{time.monotonic() - began:.1f} s]"
        self._say(f"round {number + 1}  {workload.key:16} {contender.title:36} {_short(workload, result)}  {taken}")

    def _start(self, contender: Contender) -> Server:
        self._count += 1
        folder = self._folder / f"{self._count:03d}-{contender.key}"
        folder.mkdir()
        return contender.start(folder)

    def _server(self, contender: Contender) -> Server:
        server = self._servers.get(contender.key)
        if server is not None and not machine.wait_until_quiet(server.pid):
            # Still busy with the last run's leftovers: a fresh one is fairer and faster.
            self._discard(contender)
            server = None
        if server is None or server.process.poll() is not None:
            server = self._servers[contender.key] = self._start(contender)
        return server

    def _discard(self, contender: Contender) -> None:
        server = self._servers.pop(contender.key, None)
        if server is not None:
            server.kill()

    def _stop_all(self) -> None:
        for server in self._servers.values():
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)
        self._servers.clear()


def _short(workload: Workload, result: dict[str, Any]) -> str:
    cost = result.get("unit_us")
    text = f"{cost:9.2f} µs/{workload.unit}, {result['rate']:,.0f}/s" if cost is not None else "no unit was measured"
    return (
        text
        + (f", {result['missing']} missing" if result.get("missing") else "")
        + (f", {result['errors']} errors" if result.get("errors") else "")
    )


def progress(text: str) -> None:
    """Write progress to standard error, so that standard output has only the table."""
    print(text, file=sys.stderr, flush=True)
