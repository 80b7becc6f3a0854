"""The machine: which core does what, and the system's figures of a process."""

from __future__ import annotations

import os
import platform
import resource
import socket
import time
from functools import cache
from pathlib import Path
from typing import Any

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@cache
def cores() -> tuple[set[int], set[int]]:
    """Return the cores for the servers and for the load generator: one each, so that neither takes the other's time.

    The answer is decided once, before this process pins itself.
    """
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        return {available[0]}, {available[0]}
    return {available[0]}, {available[1]}


def raise_file_limit() -> int:
    """Raise the limit of open files to the system's maximum, and return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process with all its threads (proc(5), `stat` fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def family_cpu_seconds(pid: int) -> float:
    """As :func:`cpu_seconds`, with the children of the process."""
    children = [
        int(stat.parent.name)
        for stat in Path("/proc").glob("[0-9]*/stat")
        if (text := _text(stat)) and int(text.rpartition(")")[2].split()[1]) == pid
    ]
    total = 0.0
    for one in (pid, *children):
        try:
            total += cpu_seconds(one)
        except OSError:
            continue
    return total


def _text(path: Path) -> str:
    """Return the text of a file; empty for one that is gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def wait_until_quiet(pid: int, deadline: float = 8.0, share: float = 0.05) -> bool:
    """Wait until the process uses less than ``share`` of a core. Returns False after ``deadline`` seconds."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(0.2)
        if (cpu_seconds(pid) - before) / 0.2 <= share:
            return True
    return False


def free_port() -> int:
    """Return a free port on the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def describe() -> dict[str, Any]:
    """Describe the machine: processor, kernel, Python, cores, load at the start."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }
