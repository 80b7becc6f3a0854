"""`python -m bench.scaling`: the constants of the model in docs/scaling.md, and how well it predicts other runs.

Some runs with one thing changed at a time give the constants. Then the model predicts the CPU time of other runs, which are
measured too. All processes share one core with PostgreSQL and Redis, so only CPU time counts here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import machine
from bench.cluster import Look, watched
from bench.clusters import Cluster, bus_cluster
from bench.contenders import BusFiles, BusOnDaphne
from bench.scenario import Dialect, Group, Hello, Scenario

Results = list[tuple["Load", "Used"]]

#: Channels among which the connections and the messages are shared out.
CHANNELS = 20


@dataclass(frozen=True)
class Load:
    """A bus and what it does: processes, connections, durable messages a second, and members of a channel in each process.

    The members of a channel are on the first ``spread`` processes.
    """

    processes: int
    connections: int
    messages: float
    members: int
    spread: int

    @property
    def fan_out(self) -> int:
        """Deliveries for each message."""
        return self.members * self.spread


@dataclass(frozen=True)
class Used:
    """CPU time in ms a second: of all processes of the bus together, of PostgreSQL and of Redis."""

    bus: float
    postgres: float
    redis: float


@dataclass(frozen=True)
class Constants:
    """The constants of the model. Those of a second are in ms, those of a message or delivery in µs."""

    #: An idle process, and what it makes PostgreSQL and Redis do.
    process: float = 0.0
    process_postgres: float = 0.0
    process_redis: float = 0.0
    #: 1,000 idle connections.
    connections: float = 0.0
    #: A durable, acknowledged message: in its publisher's process, in PostgreSQL and in Redis.
    message: float = 0.0
    message_postgres: float = 0.0
    message_redis: float = 0.0
    #: A message in each further process with members, and the same in Redis.
    heard: float = 0.0
    heard_redis: float = 0.0
    #: One delivery.
    delivery: float = 0.0

    def predict(self, load: Load) -> Used:
        """Return what the model says of a load."""
        rate, further = load.messages / 1000, max(load.spread - 1, 0)
        return Used(
            load.processes * self.process
            + load.connections / 1000 * self.connections
            + rate * (self.message + further * self.heard + load.fan_out * self.delivery),
            load.processes * self.process_postgres + rate * self.message_postgres,
            load.processes * self.process_redis + rate * (self.message_redis + further * self.heard_redis),
        )


def run(cluster: Cluster, load: Load, seconds: float) -> tuple[Load, Used]:
    """Measure a load on a cluster of as many processes. Return it with the rate that a busy machine reached."""
    dialect = cluster.dialect("durable" if load.messages else "plain")
    assert dialect is not None
    first = cluster.processes[0]
    per_process = load.members * CHANNELS
    groups = [_members(cluster, dialect, number, per_process) for number in range(load.spread)]
    rest = load.connections - per_process * load.spread - 10
    if rest > 0:
        share = rest // load.processes
        groups += [_others(cluster, dialect, number, share) for number in range(load.processes)]
    groups.append(Group("publishers", 10, dialect.pub_path, dialect.pub_hello, CHANNELS, publish=dialect.publish))
    plan = Scenario(first.port, first.pid, dialect, groups, seconds=seconds, warmup=3.0, complete="ack")
    plan = replace(plan, mode="rate", rate=load.messages) if load.messages else replace(plan, mode="idle")
    for server in cluster.processes:
        machine.wait_until_quiet(server.pid, 20.0)
    raw, used = watched(plan, cluster)
    wall = raw["wall"] if load.messages else seconds
    reached = raw["acked"] / wall if load.messages else 0.0
    return replace(load, messages=reached), _a_second(used, wall)


def _a_second(used: Look, seconds: float) -> Used:
    return Used(*(value / seconds * 1000 for value in (sum(used.processes), used.postgres, used.redis)))


def _hello(dialect: Dialect, name: str, room: str | None = None) -> tuple[Hello, ...]:
    texts = (hello.text.replace("s-%i-%g", name) for hello in dialect.sub_hello)
    rooms = (text if room is None else text.replace('"room":"bench"', f'"room":"{room}"') for text in texts)
    return tuple(Hello(text, hello.expect) for text, hello in zip(rooms, dialect.sub_hello, strict=True))


def _members(cluster: Cluster, dialect: Dialect, number: int, count: int) -> Group:
    hello = _hello(dialect, f"m{number}-%i-%g")
    return Group(
        f"members-{number}",
        count,
        dialect.sub_path,
        hello,
        CHANNELS,
        subscriber=True,
        port=cluster.processes[number].port,
    )


def _others(cluster: Cluster, dialect: Dialect, number: int, count: int) -> Group:
    """Return connections that nobody writes to."""
    hello = _hello(dialect, f"o{number}-%i-%g", f"bench-idle-{number}")
    return Group(f"others-{number}", count, dialect.sub_path, hello, CHANNELS, port=cluster.processes[number].port)


def with_cluster(size: int, work: Callable[[Cluster], Results]) -> Results:
    """Call ``work`` with a new cluster."""
    folder = Path(tempfile.mkdtemp(prefix="arqonbus-scaling-"))
    try:
        cluster = bus_cluster(BusOnDaphne(_no_files), size, folder)
        try:
            return work(cluster)
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _no_files() -> BusFiles:
    raise NotImplementedError("a cluster has a PostgreSQL of its own")


def calibrate(seconds: float, rate: float) -> Constants:
    """Measure loads that differ in one thing, on two processes, and return the constants."""
    quiet = Load(2, 50, 0, 1, 0)
    crowd = replace(quiet, connections=2050)
    # One member and twenty on the publishers' process; then one of two members on another process.
    single, many = Load(2, 50, rate, 1, 1), Load(2, 450, rate, 20, 1)
    apart = Load(2, 100, rate, 1, 2)
    # The crowd comes last: its departure is work, too.
    still, one, twenty, two, full = with_cluster(
        2, lambda cluster: [run(cluster, load, seconds) for load in (quiet, single, many, apart, crowd)]
    )
    idle = still[1]

    def each(part: str, found: tuple[Load, Used]) -> float:
        """Return the µs of a message above those of an idle cluster."""
        return (getattr(found[1], part) - getattr(idle, part)) / found[0].messages * 1000

    delivery = (each("bus", twenty) - each("bus", one)) / 19
    return Constants(
        process=idle.bus / 2,
        process_postgres=idle.postgres / 2,
        process_redis=idle.redis / 2,
        connections=(full[1].bus - idle.bus) / 2,
        message=each("bus", one) - delivery,
        message_postgres=each("postgres", one),
        message_redis=each("redis", one),
        heard=each("bus", two) - each("bus", one) - delivery,
        heard_redis=each("redis", two) - each("redis", one),
        delivery=delivery,
    )


#: Other loads, to compare the model with.
CHECKS = (Load(3, 900, 400, 10, 3), Load(4, 1300, 200, 20, 2))


def main() -> None:
    """Measure, predict and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second of the runs for the constants")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    machine.cores()
    machine.raise_file_limit()
    os.sched_setaffinity(0, machine.cores()[1])
    constants = calibrate(options.seconds, options.rate)
    for name, value in asdict(constants).items():
        print(f"{name:20} {value:9.3f}", flush=True)
    rows = []
    for load in CHECKS:
        ((reached, measured),) = with_cluster(
            load.processes, lambda cluster, load=load: [run(cluster, load, options.seconds)]
        )  # type: ignore[misc]
        rows.append((reached, constants.predict(reached), measured))
        print(reached)
        for part in ("bus", "postgres", "redis"):
            print(
                f"  {part:10} predicted {getattr(rows[-1][1], part):8.1f} measured {getattr(measured, part):8.1f} ms/s",
                flush=True,
            )
    if options.output is not None:
        found = {"constants": asdict(constants), "checks": [[asdict(one) for one in row] for row in rows]}
        options.output.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
