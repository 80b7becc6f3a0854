"""``arqonbus amend``: edit or delete a message, or react to it."""

from __future__ import annotations

from typing import Annotated

import typer

from ...messages import Message
from .. import output
from ..failures import NotThere
from ..options import DEFAULT_URL, ClientId, IdentityFile, Json, Token, Url, carry_out, connected, parse_payload


def amend(
    address: Annotated[str, typer.Argument(help="The channel of the message, as room:channel.")],
    seq: Annotated[int, typer.Argument(min=1, help="The number of the message in its channel.")],
    edit: Annotated[str | None, typer.Option("--edit", help="Replace the text.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", "-p", help="Replace the payload, a JSON object.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the message for its readers.")] = False,
    react: Annotated[str | None, typer.Option("--react", help="React with an emoji or another short text.")] = None,
    unreact: Annotated[str | None, typer.Option("--unreact", help="Take your reaction back.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Edit or delete a message, or react to it. Your own messages need your --identity or --token."""
    body = parse_payload(payload)
    edits = edit is not None or body is not None
    if sum((edits, delete, react is not None, unreact is not None)) != 1:
        raise typer.BadParameter("Give one of --edit (or --payload), --delete, --react and --unreact.")

    async def carry() -> None:
        async with connected(url, token, client_id, identity) as bus:
            page = await bus.history_page(address, after=seq - 1, limit=1, fold=False)
            message: Message | None = page.messages[0] if page.messages else None
            if message is None or message.seq != seq:
                raise NotThere(f"There is no message {seq} in {address}.", creatable=False)
            if edits:
                receipt = await bus.edit(message, edit, payload=body)
            elif delete:
                receipt = await bus.delete(message)
            elif react is not None:
                receipt = await bus.react(message, react)
            else:
                receipt = await bus.unreact(message, str(unreact))
            if json_lines:
                output.as_json({"id": receipt.id, "room": receipt.room, "channel": receipt.channel, "seq": receipt.seq})
            else:
                output.say(f"{receipt.room}:{receipt.channel} #{receipt.seq}", "green")

    carry_out(url, carry())
