"""``arqonbus status``, ``channels`` and ``who``: what the server has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from .. import output
from ..lookup import members_of
from ..options import (
    DEFAULT_URL,
    Json,
    Token,
    Url,
    carry_out,
    connected,
)


def status(url: Url = DEFAULT_URL, token: Token = None, json_lines: Json = False) -> None:
    """Show the server, its figures and the connected clients."""

    async def show() -> None:
        async with connected(url, token) as bus:
            answer = await bus.status()
            if json_lines:
                output.as_json(answer)
                return
            server, stats, now = answer["server"], answer["stats"], datetime.now(UTC)
            output.table(
                "",
                ("", ""),
                [
                    ("server", f"ArqonBus {server['version']}, protocol {server['protocol']}"),
                    ("up since", output.ago(server["started_at"], now)),
                    ("you are", f"{bus.client_id} ({bus.role})"),
                    *((name.replace("_", " "), value) for name, value in stats.items()),
                ],
            )
            output.table(
                "\nclients",
                ("client", "type", "name", "status", "task", "channels", "since", "active"),
                (
                    (
                        client["client_id"],
                        client["client_type"],
                        client["screen_name"],
                        *_doing(client),
                        ", ".join(client["channels"]),
                        output.ago(client["connected_at"], now),
                        output.ago(client["last_activity"], now),
                    )
                    for client in answer["clients"]
                ),
            )
            if answer["next"]:
                output.say("There are more clients. The console shows all of them.")

    carry_out(url, show())


def channels(
    room: Annotated[str | None, typer.Argument(help="Room to list. By default all rooms are listed.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """List the channels that you may see."""

    async def show() -> None:
        async with connected(url, token) as bus:
            rows = await bus.list_channels(room)
            if json_lines:
                for row in rows:
                    output.as_json(row)
                return
            now = datetime.now(UTC)
            output.table(
                "",
                ("channel", "members", "last activity", "type", "description"),
                (
                    (
                        f"{row['room']}:{row['channel']}",
                        row["participants"],
                        output.ago(row["last_activity"], now),
                        row["type"],
                        row["description"],
                    )
                    for row in rows
                ),
            )

    carry_out(url, show())


def who(
    address: Annotated[
        str, typer.Argument(help="room:channel, for example science:explore, or a room for all of its channels.")
    ],
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """List the members of a channel, or of each channel of a room."""

    async def show() -> None:
        async with connected(url, token) as bus:
            found = await members_of(bus, address)
            rows = [(f"{info['room']}:{info['channel']}", row) for info in found for row in info["participants"]]
            if json_lines:
                for place, row in rows:
                    output.as_json(row if ":" in address else {"address": place, **row})
                return
            now = datetime.now(UTC)
            output.table(
                "",
                ("client", "channel", "type", "name", "status", "task", "joined", "active"),
                (
                    (
                        row["client_id"],
                        place,
                        row["client_type"],
                        row["screen_name"],
                        *_doing(row),
                        output.ago(row["joined_at"], now),
                        output.ago(row["last_activity"], now),
                    )
                    for place, row in rows
                ),
            )
            for info in found:
                place = f"{info['room']}:{info['channel']}"
                count = info["participant_count"]
                here = f"{place} does not say who is there" if count is None else f"{place}: {count} connected"
                output.say(f"{here}, {info['seq']} messages so far")

    carry_out(url, show())


def _doing(client: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the status and the task of a client, as it said them."""
    told = client.get("status") or {}
    return told.get("status"), told.get("task")
