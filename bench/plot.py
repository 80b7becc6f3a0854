"""A plot of the run as SVG: horizontal bars on a logarithmic scale, one panel per workload."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from bench.report import number
from bench.runner import Run

WIDTH, BAR, GAP, HEAD, LABEL, VALUE, FOOT = 900, 18, 6, 44, 270, 80, 30
COLOURS = {"bus": "#0f766e", "peer": "#94a3b8", "floor": "#d4b483"}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2937 }
.title { font-weight: 600 }
.unit { fill: #6b7280; font-size: 12px }
.grid { stroke: #e5e7eb }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb }
  .unit { fill: #9ca3af }
  .grid { stroke: #374151 }
  .page { fill: #111827 }
}
"""


def _text(x: float, y: float, text: str, css: str = "", anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>\n'


def svg(run: Run) -> str:
    """Return the whole plot, with a panel for every workload of two or more contenders."""
    panels: list[str] = []
    top = 0
    for workload in run.workloads:
        bars = []
        for contender in run.contenders:
            median = run.median(workload.key, contender.key)
            if median and median.get("unit_us"):
                bars.append((float(median["unit_us"]), contender.title, contender.role))
        if len(bars) < 2:
            continue
        text, height = _panel(workload.title, workload.unit, sorted(bars), top)
        panels.append(text)
        top += height
    size = f'viewBox="0 0 {WIDTH} {max(top, 40)}" width="{WIDTH}" height="{max(top, 40)}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        "<title>Server CPU time of each contender, by workload</title>\n"
        f"<style>{STYLE}</style>\n"
        '<rect class="page" width="100%" height="100%"/>\n'
        f"{''.join(panels)}</svg>\n"
    )


def _panel(title: str, unit: str, bars: list[tuple[float, str, str]], top: int) -> tuple[str, int]:
    """Return one workload's bars, cheapest first, and their height."""
    low = math.floor(math.log10(bars[0][0]) - 0.3)
    high = math.ceil(math.log10(bars[-1][0]) + 0.01)
    height = HEAD + len(bars) * (BAR + GAP) + FOOT

    def x(value: float) -> float:
        return LABEL + (WIDTH - LABEL - VALUE) * (math.log10(value) - low) / (high - low)

    out = [
        f'<g transform="translate(0 {top})">\n',
        _text(12, 22, title, "title"),
        _text(WIDTH - 12, 22, f"µs of server CPU per {unit}, logarithmic", "unit", "end"),
    ]
    for exponent in range(low, high + 1):
        at = x(10.0**exponent)
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{HEAD - 8}" y2="{height - FOOT}"/>\n')
        out.append(_text(at, height - FOOT + 14, f"{10.0**exponent:g}", "unit", "middle"))
    for place, (value, name, role) in enumerate(bars):
        y = HEAD + place * (BAR + GAP)
        box = f'x="{LABEL}" y="{y}" width="{max(x(value) - LABEL, 1):.1f}" height="{BAR}" rx="2"'
        out.append(_text(LABEL - 8, y + 13, name, anchor="end"))
        out.append(f'<rect {box} fill="{COLOURS[role]}"/>\n')
        out.append(_text(x(value) + 6, y + 13, number(value)))
    out.append("</g>\n")
    return "".join(out), height


def write(folder: Path, name: str, run: Run) -> Path:
    """Write the plot and return its path."""
    path = folder / f"{name}.svg"
    path.write_text(svg(run))
    return path
