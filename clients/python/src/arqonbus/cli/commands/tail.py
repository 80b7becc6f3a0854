"""``arqonbus tail``: show messages as they arrive."""

from __future__ import annotations

from typing import Annotated

import typer

from ...messages import MARK
from .. import output
from ..following import show_all
from ..growing import Show, ShowFrames
from ..lookup import must_be_there
from ..options import (
    DEFAULT_URL,
    ClientId,
    Create,
    IdentityFile,
    Json,
    SinceOption,
    Token,
    Url,
    carry_out,
    connected,
    parse_since,
)


def tail(
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="Channels as room:channel, or `inbox`.")],
    since: SinceOption = None,
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
    last: Annotated[
        int | None, typer.Option("--last", min=0, max=100, help="Begin with so many of the newest messages.")
    ] = None,
    presence: Annotated[bool, typer.Option("--presence", help="Show joins and leaves too.")] = False,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Show messages as they arrive. After a restart of the server it continues, without a missing or repeated message.

    --since mark starts behind your mark, which the server keeps and which moves with what is shown: with a token or --identity.
    A streamed message grows in place on a terminal. Elsewhere it is one line at its end. With --json each frame is a line.
    """
    if last is not None and (since is not None or "inbox" in addresses):
        raise typer.BadParameter("--last is for channels, and not together with --since.")
    marked = since == MARK
    start = MARK if marked else parse_since(since)

    async def watch() -> None:
        show = ShowFrames() if json_lines else Show()
        async with connected(url, token, client_id, identity, watch=True) as bus:
            if not create:
                await must_be_there(bus, [address for address in addresses if address != "inbox"])
            subscriptions = [
                bus.inbox(since=start, grow=not json_lines, auto_mark=marked)
                if address == "inbox"
                else bus.subscribe(
                    address, since=start, last=last, presence=presence, grow=not json_lines, auto_mark=marked
                )
                for address in addresses
            ]
            for subscription in subscriptions:
                await subscription.open()
            output.say(f"listening to {', '.join(addresses)} as {bus.client_id}; press Ctrl+C to stop")
            await show_all(subscriptions, show, count, timeout)

    carry_out(url, watch())
