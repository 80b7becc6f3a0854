"""The table, the JSON file, and the comparison with the promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contenders import Contender
from bench.runner import Run
from bench.workloads import Workload

COLUMNS = (
    "contender",
    "CPU µs",
    "spread",
    "per second",
    "p50 ms",
    "p99 ms",
    "p99.9 ms",
    "server",
    "generator",
    "notes",
)


def as_json(run: Run, machine: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return all results: medians, every round, missing contenders and the reasons."""
    workloads = []
    for workload in run.workloads:
        entries: dict[str, Any] = {}
        for contender in run.contenders:
            key = (workload.key, contender.key)
            if key in run.rounds:
                entries[contender.key] = {"median": run.median(*key), "rounds": run.rounds[key]}
            elif key in run.failures:
                entries[contender.key] = {"failed": run.failures[key]}
        workloads.append({"key": workload.key, "title": workload.title, "unit": workload.unit, "contenders": entries})
    return {
        "machine": machine,
        "options": options,
        "contenders": {
            c.key: {"title": c.title, "role": c.role, "missing": run.missing.get(c.key)} for c in run.contenders
        },
        "workloads": workloads,
        "promises": [promise.as_dict() for promise in promises(run)],
    }


def table(run: Run) -> str:
    """Return the table, grouped by workload, cheapest first."""
    lines: list[str] = []
    for workload in run.workloads:
        rows = [row for contender in _by_cost(run, workload) if (row := _row(run, workload, contender))]
        if not rows:
            continue
        lines += ["", f"{workload.title}  (CPU time of the server per {workload.unit})"]
        widths = [max(len(COLUMNS[i]), *(len(row[i]) for row in rows)) for i in range(len(COLUMNS))]
        for row in (COLUMNS, *rows):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)),
                row[-1],
            ]
            lines.append("  " + "  ".join(cells).rstrip())
    if run.missing:
        lines += ["", "Not measured:"]
        lines += [f"  {c.title}: {run.missing[c.key]}" for c in run.contenders if c.key in run.missing]
    return "\n".join(lines).lstrip("\n")


def _by_cost(run: Run, workload: Workload) -> list[Contender]:
    def cost(contender: Contender) -> float:
        median = run.median(workload.key, contender.key)
        value = median.get("unit_us") if median else None
        return float("inf") if value is None else float(value)

    return sorted(run.contenders, key=cost)


def _row(run: Run, workload: Workload, contender: Contender) -> tuple[str, ...] | None:
    if reason := run.failures.get((workload.key, contender.key)):
        return (contender.title, *["–"] * (len(COLUMNS) - 2), f"failed: {reason.splitlines()[-1][:90]}")
    result = run.median(workload.key, contender.key)
    if result is None:
        return None
    spread = result["spread"]
    notes = [result.get("note") or ""]
    if (kib := result.get("kib_per_connection")) is not None:
        notes.insert(0, f"{kib:.1f} KiB each, idle at {result['idle_share']:.1%} of a core")
        notes.append(f"{result['frames_while_connecting']:,.0f} frames while connecting")
    notes += [f"{result[key]:.0f} {word}" for key, word in _TROUBLE if result.get(key)]
    return (
        contender.title,
        number(result["unit_us"]),
        f"{number(spread[0])}–{number(spread[1])}" if spread else "–",
        f"{result['rate']:,.0f}",
        *(number(result.get(key)) for key in ("p50", "p99", "p999")),
        f"{result['server_share']:.0%}",
        f"{result['generator_share']:.0%}",
        ", ".join(filter(None, notes)),
    )


_TROUBLE = (
    ("missing", "missing"),
    ("behind", "behind"),
    ("duplicates", "double"),
    ("errors", "errors"),
    ("closed", "closed by the server"),
)


def number(value: float | None) -> str:
    """Format a number with three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# ---- promises ----


@dataclass(frozen=True)
class Promise:
    """One promised figure beside the measured one."""

    text: str
    measured: float
    bound: float
    at_most: bool = True

    @property
    def kept(self) -> bool:
        """Whether the measured figure is within the bound."""
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def as_dict(self) -> dict[str, Any]:
        """Return the promise for the JSON file."""
        return {
            "promise": self.text,
            "measured": self.measured,
            "bound": self.bound,
            "at_most": self.at_most,
            "kept": self.kept,
        }


def promises(run: Run) -> Iterator[Promise]:
    """Return the promises that this run measured. All are for the bus on plain daphne."""

    def figure(workload: str, contender: str = "bus-daphne", key: str = "unit_us") -> float | None:
        median = run.median(workload, contender)
        value = median.get(key) if median else None
        return None if value is None else float(value)

    def promise(text: str, measured: float | None, bound: float | None, *, at_most: bool = True) -> Iterator[Promise]:
        if measured is not None and bound is not None:
            yield Promise(text, measured, bound, at_most)

    fan = figure("fanout")
    yield from promise("fan-out 1→1,000: µs per delivery", fan, 2.0)
    for peer, name in (("centrifuge", "Centrifuge's"), ("nats", "NATS's")):
        theirs = figure("fanout", peer)
        yield from promise(f"fan-out 1→1,000: at most 0.8 × {name}", fan, 0.8 * theirs if theirs else None)
    textbook = figure("fanout", "textbook")
    yield from promise(
        "fan-out 1→1,000: times cheaper than the textbook consumer",
        textbook / fan if textbook and fan else None,
        200,
        at_most=False,
    )
    yield from promise("fan-out, steady 100/s to 1,000: p99 ms", figure("steady", key="p99"), 15)
    for workload, text in (("durable", "32 in flight"), ("durable-wide", "32 in flight each")):
        yield from promise(f"1→1 acked and durable, {text}: µs per message", figure(workload), 80)
        yield from promise(
            f"1→1 acked and durable, {text}: messages/s", figure(workload, key="rate"), 10_000, at_most=False
        )
    yield from promise(
        "streams: µs per part, at most that of a durable message in the same run",
        figure("streams"),
        figure("streams", key="message_us"),
    )
    yield from promise("streams: a stop reaches its owner, p99 ms", figure("streams", key="stop_p99_ms"), 100)
    yield from promise("streams: threads with 1,000 event listeners", figure("streams", key="threads"), 39)
    yield from promise("1→1 acked, ephemeral: µs per message", figure("ephemeral"), 40)
    yield from promise("history, last 50, from memory: µs", figure("history-memory"), 300)
    yield from promise("history, 50 of a million rows: µs", figure("history-database"), 3000)
    yield from promise("idle registered connections: KiB each", figure("idle", key="kib_per_connection"), 30)
    yield from promise("registrations/s", figure("idle", key="rate"), 800, at_most=False)
    few, many = figure("members-10"), figure("members-5000")
    yield from promise("cost per delivery at 5,000 members: at most that at 10", many, few)
    hundred, thousand = figure("members-100"), figure("members-1000")
    yield from promise("cost per delivery at 1,000 members: at most that at 100", thousand, hundred)
    yield from promise("cost per delivery at 5,000 members: at most that at 1,000", many, thousand)
    # What the kernel's share rises by, nobody who writes to as many sockets is spared.
    floor, floor_many = figure("members-1000", "floor"), figure("members-5000", "floor")
    yield from promise(
        "cost per delivery at 5,000 members: rises from that at 1,000 by no more than the floor does (µs)",
        many - thousand if many and thousand else None,
        floor_many - floor if floor_many and floor else None,
    )
    for workload, peer, share, text in BESIDE_PEERS:
        theirs = figure(workload, peer)
        yield from promise(text, figure(workload), share * theirs if theirs else None)
    yield from promise("1→1 acked and durable: p99 ms", figure("durable", key="p99"), 5)
    yield from promise(
        "1→1 acked and durable, 20 channels: messages/s", figure("durable-wide", key="rate"), 80_000, at_most=False
    )
    yield from promise("idle connections on the compiled path: KiB each", figure("idle", key="kib_per_connection"), 10)


#: What the compiled path shall cost beside other servers in the same run: workload, contender, share of its CPU time, text.
BESIDE_PEERS = (
    ("fanout-single", "floor", 1.25, "fan-out 1→1,000, 1 in flight: at most 1.25 × the C program's"),
    ("ephemeral", "nats", 1.0, "1→1 acked, ephemeral: at most NATS's"),
    ("ephemeral", "centrifuge", 0.35, "1→1 acked, ephemeral: at most 0.35 × Centrifuge's"),
    ("channels", "centrifuge", 0.9, "500 channels × 2, durable: at most 0.9 × Centrifuge's in memory"),
    ("channels", "nats", 1.4, "500 channels × 2, durable: at most 1.4 × NATS's in memory"),
    ("mixed", "centrifuge", 0.8, "mixed: at most 0.8 × Centrifuge's"),
    ("mixed", "nats", 0.8, "mixed: at most 0.8 × NATS's"),
    ("members-10", "centrifuge", 1.0, "10 members: at most Centrifuge's"),
    ("members-100", "nats", 0.7, "100 members: at most 0.7 × NATS's"),
    ("idle", "centrifuge", 3.0, "registration: at most 3 × Centrifuge's"),
    ("recovery", "centrifuge", 0.8, "recovery: at most 0.8 × Centrifuge's"),
)


def promise_lines(run: Run) -> str:
    """Return the promises as text."""
    lines = []
    for p in promises(run):
        bound = f"{'at most' if p.at_most else 'at least'} {number(p.bound)}"
        lines.append(f"  {'kept  ' if p.kept else 'BROKEN'}  {p.text}: {number(p.measured)} ({bound})")
    return "\n".join(["Promises:", *lines]) if lines else ""


def write(folder: Path, name: str, data: dict[str, Any], text: str) -> tuple[Path, Path]:
    """Write the JSON file and the table beside it, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    as_file, as_text = folder / f"{name}.json", folder / f"{name}.txt"
    as_file.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    as_text.write_text(text + "\n")
    return as_file, as_text
