"""`python -m bench.docs`: write the results of `bench/results/latest.json` into `docs/performance.md`, between its marks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from bench.report import number

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "images" / "performance.svg"
BEGIN, END = "<!-- results: made by python -m bench.docs -->", "<!-- end of the results -->"


def results(data: dict[str, Any]) -> str:
    """Return the run as Markdown: the machine, CPU time of each contender and workload, and the promises."""
    machine, options = data["machine"], data["options"]
    shown = {key: c for key, c in data["contenders"].items() if not c.get("missing")}
    took = [len(entry["rounds"]) for w in data["workloads"] for entry in w["contenders"].values() if "rounds" in entry]
    least, most = min(took), max(took)
    rounds = f"{least}" if least == most else f"{least} or {most}"
    where = f"{machine['processor']}, {machine['cores']} cores, kernel {machine['kernel']}, Python {machine['python']}"
    how = f"medians of {rounds} rounds of {options['seconds']:g} s, {machine['minutes']} minutes in all"
    lines = [f"{where}; {how}. CPU time is that of the server's process.", ""]
    for workload in data["workloads"]:
        rows = [
            (entry["median"]["unit_us"], shown[key]["title"], entry["median"])
            for key, entry in workload["contenders"].items()
            if key in shown and "median" in entry and entry["median"].get("unit_us") is not None
        ]
        if not rows:
            continue
        unit = workload["unit"]
        lines += [
            f"**{workload['title']}**",
            "",
            f"| contender | µs per {unit} | {_plural(unit)} per second | p50 ms | p99 ms | p99.9 ms | generator |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for cost, title, median in sorted(rows, key=lambda row: row[0]):
            name = f"**{title}**" if title.startswith("ArqonBus") else title
            times = " | ".join(number(median.get(key)) for key in ("p50", "p99", "p999"))
            lines.append(
                f"| {name} | {number(cost)} | {median['rate']:,.0f} | {times} | {median['generator_share']:.0%} |"
            )
        lines += [_memory(rows), ""] if any("kib_per_connection" in median for _, _, median in rows) else [""]
    lines += ["**Promised figures, on plain daphne**", "", "| promise | bound | measured | |", "|---|--:|--:|---|"]
    for promise in data["promises"]:
        bound = f"{'≤' if promise['at_most'] else '≥'} {number(promise['bound'])}"
        verdict = "kept" if promise["kept"] else "**not kept**"
        lines.append(f"| {promise['promise']} | {bound} | {number(promise['measured'])} | {verdict} |")
    return "\n".join(lines)


def _plural(unit: str) -> str:
    return f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"


def _memory(rows: list[tuple[float, str, dict[str, Any]]]) -> str:
    each = [
        f"| {title} | {median['kib_per_connection']:.1f} |"
        for _, title, median in rows
        if "kib_per_connection" in median
    ]
    return "\n".join(["", "Memory of the server for one connection:", "", "| contender | KiB |", "|---|--:|", *each])


def main() -> int:
    """Rewrite the part of the page, and copy the plot beside it."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    data = json.loads((RESULTS / "latest.json").read_text())
    PAGE.write_text(f"{before}{BEGIN}\n\n{results(data)}\n\n{END}{after}")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(RESULTS / "latest.svg", PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
