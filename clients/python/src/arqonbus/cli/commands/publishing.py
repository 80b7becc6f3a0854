"""``arqonbus pub``: publish messages."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import output, stdin
from ..lookup import must_be_there
from ..options import (
    DEFAULT_URL,
    ClientId,
    Create,
    IdentityFile,
    Json,
    Token,
    Url,
    carry_out,
    check_target,
    connected,
    parse_later,
    parse_payload,
)


def pub(
    address: Annotated[
        str, typer.Argument(help="room:channel, room:* for all members of the room, or pm:<client_id> for one client.")
    ],
    message: Annotated[str | None, typer.Argument(help="The text. - reads lines from standard input.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", "-p", help="Payload, a JSON object.")] = None,
    type: Annotated[str, typer.Option("--type", help="Type of the message.")] = "event",
    id: Annotated[
        str | None, typer.Option("--id", help="Id of the message. The bus keeps a repeat by the same --client-id once.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for the acknowledgement.")] = 30.0,
    later: Annotated[
        str | None,
        typer.Option("--at", help="When the job of a work channel is due: an ISO time, or 30s, 10m, 2h from now."),
    ] = None,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Publish, and return when the message is durable. During a restart of the server it repeats; the bus keeps one."""
    check_target(address)
    body = parse_payload(payload)
    due = parse_later(later)
    if message == "-" and id is not None:
        raise typer.BadParameter("--id names one message. Lines from standard input get their own ids.")
    if message is None and body is None:
        raise typer.BadParameter("Give a text, - for standard input, or --payload.")

    async def publish() -> None:
        async with connected(url, token, client_id, identity, timeout=timeout) as bus:
            if not create:
                await must_be_there(bus, [address])

            async def one(text: str | None) -> None:
                receipt = await bus.publish(address, text, payload=body, type=type, id=id, deliver_at=due)
                if json_lines:
                    row = {"id": receipt.id, "room": receipt.room, "channel": receipt.channel, "seq": receipt.seq}
                    output.as_json({**row, "duplicate": receipt.duplicate})
                else:
                    again = ", published before" if receipt.duplicate else ""
                    output.say(f"{receipt.room}:{receipt.channel} #{receipt.seq}{again}", "green")
                for target in receipt.unproven:
                    output.say(
                        f"{target} is away. It receives the message only if it proves its identity (--identity, or a token).",
                        "yellow",
                    )

            if message != "-":
                await one(message)
                return
            async for line in stdin.lines():
                await one(line)

    carry_out(url, publish())
