"""What the parts of a cluster use while the load generator measures: CPU time, and commands of Redis."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Any

from bench import build, machine
from bench.clusters import Cluster
from bench.scenario import Scenario
from bench.workloads import RunFailedError

_COMMAND = re.compile(r"^cmdstat_([^:]+):calls=(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Look:
    """CPU seconds of each part, and the commands that Redis has served."""

    processes: tuple[float, ...]
    redis: float
    postgres: float
    commands: dict[str, int]

    @classmethod
    def at(cls, cluster: Cluster) -> Look:
        """Look at a cluster now."""
        return cls(
            tuple(_cpu(server.pid) for server in cluster.processes),
            _cpu(cluster.redis.pid),
            machine.family_cpu_seconds(cluster.postgres.pid) if cluster.postgres else 0.0,
            _commands(cluster.redis.port),
        )

    def since(self, before: Look) -> Look:
        """What was used since an earlier look. The look itself is one command."""
        counted = {name: calls - before.commands.get(name, 0) for name, calls in self.commands.items()}
        counted.pop("info", None)
        return Look(
            tuple(now - then for now, then in zip(self.processes, before.processes, strict=True)),
            self.redis - before.redis,
            self.postgres - before.postgres,
            {name: calls for name, calls in counted.items() if calls},
        )


def _cpu(pid: int) -> float:
    """Return the CPU time of a process with all its threads, in nanoseconds' steps (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def _commands(port: int) -> dict[str, int]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"INFO commandstats\r\n")
        text = connection.recv(1 << 16)
        length = int(text[1 : text.index(b"\r\n")])
        while len(text) < length:
            text += connection.recv(1 << 16)
    return {name: int(calls) for name, calls in _COMMAND.findall(text.decode())}


def watched(plan: Scenario, cluster: Cluster) -> tuple[dict[str, Any], Look]:
    """Run the load generator. Return its figures, and what was used while it measured. Raises ``RunFailedError``."""
    _, core = machine.cores()
    process = subprocess.Popen(
        [str(build.c_program("load"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.write(replace(plan, announce=1).text())
    process.stdin.close()
    looks: list[Look] = []
    said: list[str] = []
    for line in process.stderr:
        if line.strip() in ("begin", "end"):
            looks.append(Look.at(cluster))
        else:
            said.append(line)
    output = process.stdout.read()
    if process.wait(60) or len(looks) != 2:
        raise RunFailedError(f"the load generator: {output[-300:]}{''.join(said)[-300:]}")
    raw: dict[str, Any] = json.loads(output)
    if not raw["ok"]:
        raise RunFailedError(raw["first_error"] or raw["first_close"] or f"{raw['failed']} connections failed")
    return raw, looks[1].since(looks[0])
