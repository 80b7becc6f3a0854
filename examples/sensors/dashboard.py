#!/usr/bin/env python
"""A dashboard in the terminal that shows the last, lowest, mean and highest value of each sensor.

``python dashboard.py`` starts with the last ten minutes and follows the channel. Every reading counts once, even if you restart
the dashboard or the server.
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
    """The values of one quantity of one sensor."""

    number: int = 0
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    last: float = 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.number += 1
        self.total += value
        self.least, self.most, self.last = min(self.least, value), max(self.most, value), value


class Board:
    """The readings of all sensors."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = defaultdict(Series)
        self.readings = 0

    def add(self, message: arqonbus.Message) -> None:
        """Add the values of a reading."""
        self.readings += 1
        sensor = str(message.payload.get("sensor", message.sender))
        for quantity, value in message.payload.items():
            if quantity != "number" and isinstance(value, (int, float)):
                self.series[sensor, quantity].add(value)

    def table(self) -> Table:
        """Draw all values as a table."""
        shown = Table(title=f"{self.readings} readings", title_justify="left")
        for name in ("sensor", "quantity", "readings", "last", "least", "mean", "most"):
            shown.add_column(name, justify="left" if name in ("sensor", "quantity") else "right")
        for (sensor, quantity), row in sorted(self.series.items()):
            figures = (row.last, row.least, row.total / row.number, row.most)
            shown.add_row(sensor, quantity, str(row.number), *(f"{figure:g}" for figure in figures))
        return shown


async def main() -> None:
    """Read the command line and show the dashboard."""
    parser = argparse.ArgumentParser(description="Show the sensors of an ArqonBus.")
    parser.add_argument("--url", default=os.environ.get("ARQONBUS_URL", "ws://localhost:8765/"), help="URL of the bus")
    parser.add_argument("--channel", default="sensors:readings", help="channel of the readings, as room:channel")
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of stored readings to start with")
    parser.add_argument(
        "--readings", type=int, default=0, help="number of readings after which it ends; 0: run until Ctrl+C"
    )
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
