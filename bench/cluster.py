"""`python -m bench.cluster`: what a message costs with 1, 2 and 4 processes. `make bench-cluster` runs it.

All processes share a PostgreSQL and a Redis, and one core. The load generator has another core. So throughput means little
here, and CPU time for each message is what counts: in the process of the publishers, in those of the members, in the others,
in Redis and in PostgreSQL. Centrifuge's Redis engine runs on the same Redis.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import build, machine
from bench.clusters import Cluster, bus_cluster, centrifuge_cluster
from bench.contenders import Bus, BusFiles, BusInPython, BusOnDaphne, BusOnUvicorn
from bench.looks import watched
from bench.runner import progress
from bench.scenario import Dialect, Group, Hello, Scenario
from bench.workloads import RunFailedError

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = RESULTS.parents[1] / "docs" / "scaling.md"
SIZES = (1, 2, 4)
#: Members of each channel in each process that has some.
MEMBERS = 10
#: Seconds of one look at silent processes.
IDLE = 4.0


# ---- the workloads ----


@dataclass(frozen=True)
class Kind:
    """What is published, to how many channels, with how many messages under way."""

    key: str
    title: str
    kind: str
    channels: int = 1
    tokens: int = 32
    private: bool = False
    #: The numbers of processes with members that it is measured with; 0: all of them.
    spread: tuple[int, ...] = (1, 2, 0)


KINDS = (
    Kind("durable", "durable, one channel", "durable"),
    Kind("durable-single", "durable, one channel, 1 under way", "durable", tokens=1, spread=(1,)),
    Kind("durable-wide", "durable, 20 channels, 640 under way", "durable", channels=20, tokens=640, spread=(1, 0)),
    Kind("private", "private, 20 targets", "durable", channels=20, private=True, spread=(1,)),
    Kind("ephemeral", "ephemeral, one channel", "ephemeral"),
    Kind("ephemeral-single", "ephemeral, one channel, 1 under way", "ephemeral", tokens=1, spread=(1,)),
)


def placement(size: int, spread: int) -> list[int]:
    """Return the processes that have members. The publishers' process has some only where no other is left."""
    count = spread or size
    return [(1 + number) % size for number in range(count)] if count <= size else []


def run_once(cluster: Cluster, kind: Kind, spread: int, seconds: float, silent: float) -> dict[str, Any] | None:
    """Measure one kind of message to members in so many processes; None where the contender or the cluster has no such.

    ``silent`` is the share of a core that a silent process uses.
    """
    places = placement(len(cluster.processes), spread)
    if not places or (kind.private and cluster.postgres is None):
        return None
    dialect = cluster.fresh(kind.kind)
    if dialect is None:
        return None
    publish = dialect.publish
    if kind.private:
        publish = '{"type":"private","id":"%M","to":["s0-0-%g"],"ack":true,"payload":{"d":"%P"}}'
    groups = [_members(cluster, dialect, kind, number, place) for number, place in enumerate(places)]
    groups.append(Group("publishers", 20, dialect.pub_path, dialect.pub_hello, publish=publish))
    first = cluster.processes[0]
    plan = Scenario(first.port, first.pid, dialect, groups, seconds=seconds, tokens=kind.tokens)
    plan.complete = "ack" if dialect.acked else "delivery"
    raw, used = watched(plan, cluster)
    messages = raw["acked"] if dialect.acked else raw["delivered"] // (MEMBERS * len(places))
    if not messages:
        raise RunFailedError("no message was measured")
    others = [number for number in range(1, len(cluster.processes)) if number not in places]
    receiving = [number for number in places if number] or [0]

    def cost(numbers: Sequence[int]) -> float | None:
        return max(used.processes[number] for number in numbers) / messages * 1e6 if numbers else None

    return {
        "publishing_us": cost([0]),
        "receiving_us": cost(receiving) if receiving != [0] else None,
        "other_us": cost(others),
        "other_above_us": max(other - silent * raw["wall"] / messages * 1e6, 0.0)
        if (other := cost(others)) is not None
        else None,
        "redis_us": used.redis / messages * 1e6,
        "postgres_us": used.postgres / messages * 1e6 if cluster.postgres else None,
        "commands": sum(used.commands.values()) / messages,
        "by_command": {name: calls / messages for name, calls in sorted(used.commands.items())},
        "rate": messages / raw["wall"],
        "p50_ms": (raw["ack_ms"] or raw["delivery_ms"] or {}).get("p50"),
        "p99_ms": (raw["ack_ms"] or raw["delivery_ms"] or {}).get("p99"),
        "missing": raw["missing"] + raw["lost"],
        "errors": raw["errors"],
        "problem": raw["first_error"] or raw["first_close"],
    }


def _members(cluster: Cluster, dialect: Dialect, kind: Kind, number: int, place: int) -> Group:
    """Return the members in one process. A name exists once in the cluster."""
    hellos = tuple(
        Hello(hello.text.replace("s-%i-%g", f"s{number}-%i-%g"), hello.expect) for hello in dialect.sub_hello
    )
    if kind.private:
        hellos = tuple(Hello(hello.text.replace("-%i-%g", "-0-%g"), hello.expect) for hello in hellos)
    count = kind.channels if kind.private else MEMBERS * kind.channels
    group = Group(f"members-{number}", count, dialect.sub_path, hellos, channels=kind.channels, subscriber=True)
    group.port = cluster.processes[place].port
    return group


def idle(cluster: Cluster) -> dict[str, Any]:
    """Look at silent processes with a few members each."""
    dialect = cluster.fresh("plain")
    assert dialect is not None
    kind, first = Kind("idle", "", "plain"), cluster.processes[0]
    groups = [_members(cluster, dialect, kind, number, number) for number in range(len(cluster.processes))]
    _, used = watched(Scenario(first.port, first.pid, dialect, groups, "idle", seconds=IDLE, warmup=1.5), cluster)
    return {
        "process_ms": max(used.processes) / IDLE * 1e3,
        "redis_ms": used.redis / IDLE * 1e3,
        "postgres_ms": used.postgres / IDLE * 1e3 if cluster.postgres else None,
        "commands": sum(used.commands.values()) / IDLE,
    }


# ---- the run ----


@dataclass
class Results:
    """The rounds of each row, by contender, size, kind and spread."""

    rows: dict[tuple[str, int, str, int], list[dict[str, Any]]] = field(default_factory=dict)
    silent: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)

    @staticmethod
    def median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the median of each figure."""
        merged = dict(rounds[-1])
        for key in merged:
            values = [one[key] for one in rounds if isinstance(one[key], int | float)]
            if values:
                merged[key] = statistics.median(values)
        return merged


def measure(starts: dict[str, Callable[[int, Path], Cluster]], chosen: argparse.Namespace) -> Results:
    """Run all rounds."""
    results = Results()
    kinds = [kind for kind in KINDS if not chosen.only or kind.key in chosen.only.split(",")]
    for turn in range(chosen.rounds):
        for size in (int(number) for number in chosen.sizes.split(",")):
            for key, start in starts.items():
                folder = Path(tempfile.mkdtemp(prefix="arqonbus-cluster-"))
                try:
                    cluster = start(size, folder)
                except build.MissingError as reason:
                    progress(f"{key}: {reason}")
                    continue
                try:
                    _round(results, cluster, kinds, chosen, turn)
                finally:
                    cluster.stop()
                    shutil.rmtree(folder, ignore_errors=True)
    return results


def _round(results: Results, cluster: Cluster, kinds: list[Kind], chosen: argparse.Namespace, turn: int) -> None:
    size = len(cluster.processes)
    silent = idle(cluster)
    results.silent.setdefault((cluster.key, size), []).append(silent)
    for kind in kinds:
        # With few processes, two placements may be the same.
        for spread in dict.fromkeys(spread if spread < size else 0 for spread in kind.spread):
            try:
                row = run_once(cluster, kind, spread, chosen.seconds, silent["process_ms"] / 1e3)
            except RunFailedError as problem:
                progress(f"round {turn + 1}  {cluster.key} × {size}  {kind.key} to {spread or 'all'}: FAILED {problem}")
            else:
                if row is not None:
                    results.rows.setdefault((cluster.key, size, kind.key, spread), []).append(row)


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cells(row: dict[str, Any]) -> str:
    keys = (
        "publishing_us",
        "receiving_us",
        "other_us",
        "other_above_us",
        "redis_us",
        "postgres_us",
        "commands",
        "rate",
    )
    trouble = f" {row['missing']} missing, {row['errors']} errors" if row["missing"] or row["errors"] else ""
    return " | ".join(_figure(row[key]) for key in keys) + trouble


HEADING = (
    "| contender | processes | members in | publishing µs | receiving µs | another µs | above idle µs | Redis µs | PostgreSQL µs"
    " | Redis commands | messages/s |"
)


def table(results: Results) -> str:
    """Return the tables as Markdown."""
    titles = {kind.key: kind.title for kind in KINDS}
    lines = []
    for key in titles:
        found = {place: rounds for place, rounds in results.rows.items() if place[2] == key}
        if not found:
            continue
        lines += [
            f"**{titles[key]}**",
            "",
            HEADING,
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for (contender, size, _, spread), rounds in sorted(found.items()):
            cells = _cells(Results.median(rounds))
            lines.append(f"| {contender} | {size} | {spread or 'all'} | {cells} |")
        lines.append("")
    if results.silent:
        lines += [
            f"**silent, {MEMBERS} connections in each process**",
            "",
            "| contender | processes | one process ms/s | Redis ms/s | PostgreSQL ms/s | Redis commands/s |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for (contender, size), rounds in sorted(results.silent.items()):
            one = Results.median(rounds)
            cells = " | ".join(_figure(one[key]) for key in ("process_ms", "redis_ms", "postgres_ms", "commands"))
            lines.append(f"| {contender} | {size} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def as_json(results: Results, facts: dict[str, Any]) -> dict[str, Any]:
    """Return all rounds."""
    return {
        "machine": facts,
        "rows": [
            {"contender": contender, "processes": size, "kind": kind, "spread": spread or "all", "rounds": rounds}
            for (contender, size, kind, spread), rounds in results.rows.items()
        ],
        "silent": [
            {"contender": contender, "processes": size, "rounds": rounds}
            for (contender, size), rounds in results.silent.items()
        ],
    }


def into_page(tables: str) -> None:
    """Put the tables into the page about scaling, between its marks."""
    before, found, rest = PAGE.read_text().partition("<!-- cluster: made by python -m bench.cluster --docs -->\n")
    after = rest.partition("<!-- end of cluster -->")[2]
    PAGE.write_text(f"{before}{found}\n{tables}\n<!-- end of cluster -->{after}")


def _no_files() -> BusFiles:
    raise build.MissingError("a cluster has a PostgreSQL of its own")


def main(argv: list[str] | None = None) -> int:
    """Measure, print the tables and write the files."""
    buses: dict[str, Bus] = {bus.key: bus(_no_files) for bus in (BusOnDaphne, BusInPython, BusOnUvicorn)}
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument(
        "--contenders", default="bus-daphne,centrifuge-redis", help=f"{', '.join(buses)} or centrifuge-redis"
    )
    parser.add_argument("--sizes", default="1,2,4", help="numbers of processes (1,2,4)")
    parser.add_argument("--only", default="", help=f"{', '.join(kind.key for kind in KINDS)}")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the tables show their medians (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--name", default="cluster", help="name of the files (cluster)")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/scaling.md, too")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the files")
    chosen = parser.parse_args(argv)
    starts: dict[str, Callable[[int, Path], Cluster]] = {}
    for key in chosen.contenders.split(","):
        if key == "centrifuge-redis":
            starts[key] = centrifuge_cluster
        elif key in buses:
            starts[key] = lambda size, folder, bus=buses[key]: bus_cluster(bus, size, folder)  # type: ignore[misc]
        else:
            parser.error(f"{key} is no contender")
    machine.cores()
    machine.raise_file_limit()
    facts = machine.describe()
    os.sched_setaffinity(0, machine.cores()[1])
    results = measure(starts, chosen)
    text = f"{facts['processor']}, {facts['cores']} cores, kernel {facts['kernel']}, Python {facts['python']}\n\n{table(results)}"
    print(text)
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / f"{chosen.name}.txt").write_text(text)
    (chosen.output / f"{chosen.name}.json").write_text(json.dumps(as_json(results, facts), indent=1) + "\n")
    if chosen.docs:
        into_page(table(results))
    return 0 if results.rows or results.silent else 1


if __name__ == "__main__":
    sys.exit(main())
