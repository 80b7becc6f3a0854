"""``arqonbus history``: show past messages."""

from __future__ import annotations

from typing import Annotated

import typer

from ...messages import Message
from .. import output
from ..options import (
    DEFAULT_URL,
    Json,
    SinceOption,
    Token,
    Url,
    carry_out,
    connected,
    parse_since,
)


def history(
    address: Annotated[str, typer.Argument(help="room:channel, or a room for all of its channels.")],
    since: SinceOption = None,
    until: Annotated[str | None, typer.Option("--until", help="End at an ISO time, or at a period before now.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Maximum number of messages.")] = None,
    type: Annotated[str | None, typer.Option("--type", help="Show only this type.")] = None,
    sender: Annotated[str | None, typer.Option("--from", help="Show only messages of this client_id.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    json_lines: Json = False,
) -> None:
    """Show past messages, oldest first. Without --since, show the newest 50 (or --limit)."""
    start, end = parse_since(since), parse_since(until)
    if isinstance(end, int):
        raise typer.BadParameter("--until must be a time.")

    async def read() -> None:
        show = output.message_as_json if json_lines else output.show_message
        async with connected(url, token) as bus:
            if start is None and end is None:
                wanted = limit or 50
                messages: list[Message] = []
                before: int | str | None = None
                while len(messages) < wanted:
                    page = await bus.history_page(
                        address, limit=min(500, wanted - len(messages)), before=before, type=type, sender=sender
                    )
                    messages[:0] = page.messages
                    before = page.next
                    if before is None or not page.messages:
                        break
                for message in messages:
                    show(message)
                return
            number = 0
            async for message in bus.history(address, since=start, until=end, type=type, sender=sender):
                show(message)
                number += 1
                if number == limit:
                    return

    carry_out(url, read())
