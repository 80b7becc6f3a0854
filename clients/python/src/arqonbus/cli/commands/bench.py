"""``arqonbus bench``: measure a server."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .. import bench as benchmark
from .. import output
from ..options import (
    DEFAULT_URL,
    Json,
    Token,
    Url,
    carry_out,
)


def bench(
    messages: Annotated[
        int, typer.Option("--messages", "-n", min=1, max=1_000_000, help="Total number of messages.")
    ] = 1000,
    publishers: Annotated[
        int, typer.Option("--publishers", min=1, max=200, help="Number of publishing connections.")
    ] = 2,
    subscribers: Annotated[
        int, typer.Option("--subscribers", min=0, max=1000, help="Number of subscribing connections.")
    ] = 5,
    size: Annotated[int, typer.Option("--size", min=1, max=200_000, help="Size of each text in bytes.")] = 100,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Measure acknowledged publishes and their delivery. Fail if a message is lost, repeated or out of order.

    With an admin's token it creates a channel and deletes it at the end. Otherwise its messages stay in bench:load until the
    retention deletes them.
    """

    async def measure() -> None:
        with Progress(
            TextColumn("publishing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=output.err,
            transient=True,
            disable=not output.err.is_terminal,
        ) as progress:
            task = progress.add_task("", total=messages)
            figures = await benchmark.run(
                url,
                token,
                publishers=publishers,
                subscribers=subscribers,
                messages=messages,
                size=size,
                progress=lambda done: progress.update(task, completed=done),
            )
        if json_lines:
            output.as_json(figures.as_dict())
            return
        ack, delivery = figures.ack_ms, figures.delivery_ms
        limit = figures.server_limit_per_publisher
        output.table(
            "",
            ("", ""),
            [
                ("published", f"{figures.published_per_second:,.0f}/s acked, from {publishers} connections"),
                ("delivered", f"{figures.delivered_per_second:,.0f}/s to {subscribers} connections"),
                ("publish → ack", f"p50 {ack['p50']} ms, p99 {ack['p99']} ms"),
                ("publish → delivery", f"p50 {delivery['p50']} ms, p99 {delivery['p99']} ms"),
            ],
        )
        if limit:
            output.say(
                f"The server accepts {limit:g} frames/s per connection (ARQONBUS_RATE_LIMIT). The bench respects this limit."
            )

    carry_out(url, measure())
