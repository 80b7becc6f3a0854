"""`python -m bench.profile WORKLOAD [CONTENDER]`: show where the server spends its time, by py-spy's samples.

It prints the functions with the most samples of their own, and those with the most samples including their callees.
``--output FILE`` stores the raw stacks, one line each, for a flame graph. Sampling costs the server a little. For figures,
use `python -m bench`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from bench import build, machine
from bench.catalogue import all_workloads
from bench.runner import Runner, progress
from bench.workloads import Options

#: Samples a second.
RATE = 400


def stacks(text: str) -> tuple[Counter[str], Counter[str], int]:
    """Return own and total samples of each function from py-spy's raw format (``a;b;c 12``), and their number."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    number = 0
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        # Lines inside of a function, and the thread's own name, do not matter here.
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";") if not frame.startswith("thread ")]
        if not frames:
            continue
        number += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return own, total, number


def table(own: Counter[str], total: Counter[str], number: int, rows: int) -> str:
    """Return both rankings as text."""
    lines = []
    for title, counted in (("own time", own), ("with what it calls", total)):
        lines.append(f"{title}:")
        lines += [f"  {count / number:6.1%}  {name}" for name, count in counted.most_common(rows)]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run one workload while py-spy samples its server."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("workload", choices=[workload.key for workload in all_workloads()])
    parser.add_argument("contender", nargs="?", default="bus-daphne")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument(
        "--threads", action="store_true", help="sample all threads, not only those that hold the interpreter's lock"
    )
    parser.add_argument("--native", action="store_true", help="include C functions")
    parser.add_argument("--output", type=Path, help="file for the raw stacks")
    chosen = parser.parse_args(argv)
    options = Options(seconds=chosen.seconds)
    runner = Runner(options, 1, progress)
    workload = next(w for w in all_workloads() if w.key == chosen.workload)
    contender = next((c for c in runner.contenders() if c.key == chosen.contender), None)
    if contender is None or shutil.which("py-spy", path=str(Path(sys.executable).parent)) is None:
        progress("bench.profile: no such contender, or py-spy is not installed")
        return 2
    machine.raise_file_limit()
    build.c_program("load")
    os.sched_setaffinity(0, machine.cores()[1])
    folder = Path(tempfile.mkdtemp(prefix="arqonbus-profile-"))
    try:
        server = contender.start(folder)
        raw = folder / "stacks.txt"
        sampler = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(server.pid), "--format", "raw"),
                *("--rate", str(RATE), "--duration", "3600", "--output", str(raw)),
                *([] if chosen.threads else ["--gil"]),
                *(["--native"] if chosen.native else []),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        result = workload.run(contender, server, options)
        sampler.send_signal(2)
        sampler.wait(30)
        server.kill()
        text = raw.read_text()
    finally:
        runner.close()
        shutil.rmtree(folder, ignore_errors=True)
    if chosen.output:
        chosen.output.write_text(text)
    print(table(*stacks(text), chosen.rows))
    if result:
        print(f"{workload.title}: {result['unit_us']:.1f} µs per {workload.unit} under the sampler")
    return 0


if __name__ == "__main__":
    sys.exit(main())
