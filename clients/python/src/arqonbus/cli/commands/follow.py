"""``arqonbus follow``: show the messages of whole rooms."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import output
from ..following import show_all
from ..growing import Show, ShowFrames
from ..options import DEFAULT_URL, ClientId, IdentityFile, Json, Token, Url, carry_out, connected


def follow(
    rooms: Annotated[list[str], typer.Argument(metavar="ROOM…", help="Rooms, with all channels that you may join.")],
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="Stop after this number of messages.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0,
            help="Stop after this many seconds. With --count, exit with 7 if fewer messages arrived.",
        ),
    ] = None,
    presence: Annotated[bool, typer.Option("--presence", help="Show joins and leaves too.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Show the messages of all channels of a room, also of those to come. Nobody sees you there.

    After a restart of the server it continues, without a missing or repeated message.
    """
    if any(":" in room for room in rooms):
        raise typer.BadParameter("Give rooms. `arqonbus tail` shows one channel.")

    async def watch() -> None:
        show = ShowFrames() if json_lines else Show()
        async with connected(url, token, client_id, identity, watch=True) as bus:
            followed = [bus.follow(room, presence=presence) for room in rooms]
            for subscription in followed:
                await subscription.open()
                if subscription.truncated:
                    output.say(f"{subscription.room} has more channels than one client may follow.", "yellow")
            output.say(f"following {', '.join(rooms)} as {bus.client_id}; press Ctrl+C to stop")
            await show_all([*followed], show, count, timeout)

    carry_out(url, watch())
