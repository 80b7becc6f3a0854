#!/usr/bin/env python
"""A dashboard in the terminal: the sensors of a channel with their last, least, mean and highest values.

``python dashboard.py`` begins with the last ten minutes and follows. Restart it, or the server: every reading counts once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

import arqonbus


@dataclass
class Series:
    """The values of one quantity."""

    number: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    last: float = 0.0

    def add(self, value: float) -> None:
        """One more value."""
        self.number += 1
        self.total += value
        self.least, self.most, self.last = min(self.least, value), max(self.most, value), value


class Board:
    """What is known of all sensors."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = defaultdict(Series)
        self.readings = 0

    def add(self, message: arqonbus.Message) -> None:
        """Take a reading into account."""
        self.readings += 1
        sensor = str(message.payload.get("sensor", message.sender))
        for quantity, value in message.payload.items():
            if quantity != "number" and isinstance(value, (int, float)):
                self.series[sensor, quantity].add(value)

    def table(self) -> Table:
        """As a table."""
        shown = Table(title=f"{self.readings} readings", title_justify="left")
        for name in ("sensor", "quantity", "readings", "last", "least", "mean", "most"):
            shown.add_column(name, justify="left" if name in ("sensor", "quantity") else "right")
        for (sensor, quantity), row in sorted(self.series.items()):
            figures = (row.last, row.least, row.total / row.number, row.most)
            shown.add_row(sensor, quantity, str(row.number), *(f"{figure:g}" for figure in figures))
        return shown


async def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Show the sensors of an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="the bus")
    parser.add_argument("--channel", default="sensors:readings", help="where from, as room:channel")
    parser.add_argument("--minutes", type=float, default=10.0, help="how far to look back")
    parser.add_argument("--readings", type=int, default=0, help="end after so many; 0: until it is stopped")
    chosen = parser.parse_args()
    board = Board()
    console = Console()
    async with (
        arqonbus.connect(chosen.url, client_type="dashboard", token=os.environ.get("ARQONBUS_TOKEN"), wait=30) as bus,
        bus.subscribe(chosen.channel, since=timedelta(minutes=chosen.minutes)) as messages,
    ):
        with Live(board.table(), console=console, refresh_per_second=4) as live:
            async for message in messages:
                if message.type == "reading":
                    board.add(message)
                    live.update(board.table())
                if board.readings == chosen.readings:
                    return


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except arqonbus.ArqonBusError as problem:
        raise SystemExit(f"dashboard: {problem}") from None
