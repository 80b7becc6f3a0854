"""`python -m bench`: measure this bus and its peers side by side. `make bench` runs it.

Everything stays on the loopback. The servers have one core, and the load generator has another.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from bench import build, machine, plot, report
from bench.catalogue import all_workloads
from bench.runner import Runner, progress
from bench.workloads import Options

RESULTS = Path(__file__).resolve().parent / "results"


def arguments() -> argparse.ArgumentParser:
    """Parse the command line."""
    keys = ", ".join(workload.key for workload in all_workloads())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="KEYS", help=f"workloads, separated by commas: {keys}")
    parser.add_argument(
        "--contenders",
        default="",
        metavar="KEYS",
        help="contenders, separated by commas (bus-daphne, nats, …; see --list)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the table shows their median (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument(
        "--quick", action="store_true", help="one short round with smaller sizes, as a check that everything runs"
    )
    parser.add_argument("--name", default="latest", help="name of the files in bench/results (latest)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the files")
    parser.add_argument("--list", action="store_true", help="list workloads and contenders, measure nothing")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table and write the files. Returns 0, or 1 if the bus could not be measured."""
    chosen = arguments().parse_args(argv)
    seconds = min(chosen.seconds, 1.0) if chosen.quick else chosen.seconds
    options = Options(seconds=seconds, quick=chosen.quick)
    rounds = 1 if chosen.quick else chosen.rounds
    workloads = [w for w in all_workloads() if not chosen.only or w.key in chosen.only.split(",")]
    runner = Runner(options, rounds, progress, asked=bool(chosen.contenders))
    contenders = [c for c in runner.contenders() if not chosen.contenders or c.key in chosen.contenders.split(",")]
    if chosen.list:
        print("workloads:", *(f"  {w.key:18} {w.title}" for w in workloads), sep="\n")
        print("contenders:", *(f"  {c.key:18} {c.title}" for c in contenders), sep="\n")
        return 0
    if not workloads or not contenders:
        progress("bench: nothing to measure; --list shows the keys")
        return 2
    _, core = machine.cores()
    machine.raise_file_limit()
    try:
        build.c_program("load")
    except build.MissingError as reason:
        progress(f"bench: the load generator is needed: {reason}")
        return 2
    facts = machine.describe()
    os.sched_setaffinity(0, core)
    # Told to stop, it still shows what it has.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        run = runner.measure(workloads, contenders)
    finally:
        runner.close()
    facts["minutes"] = round((time.monotonic() - began) / 60, 1)
    parts = [_heading(facts, rounds, seconds), report.table(run), report.promise_lines(run)]
    text = "\n\n".join(filter(None, parts))
    print(text)
    settings = {"rounds": rounds, "seconds": seconds, "quick": chosen.quick, "only": chosen.only}
    files = report.write(chosen.output, chosen.name, report.as_json(run, facts, settings), text)
    paths = [*files, plot.write(chosen.output, chosen.name, run)]
    progress("written: " + ", ".join(os.path.relpath(path) for path in paths))
    return int(any(contender == "bus-daphne" for _, contender in run.failures) or "bus-daphne" in run.missing)


def _heading(facts: dict[str, Any], rounds: int, seconds: float) -> str:
    """Return two lines about the machine and the run."""
    return (
        f"{facts['processor']}, {facts['cores']} cores (server on one, load generator on another), "
        f"kernel {facts['kernel']}, Python {facts['python']}\n"
        f"median of {rounds} rounds of {seconds:g} s, {facts['minutes']} minutes in all, "
        f"load of the machine before {facts['load_1min']}"
    )


if __name__ == "__main__":
    sys.exit(main())
