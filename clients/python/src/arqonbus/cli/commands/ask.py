"""``arqonbus ask``: ask a client or a worker, and print the reply."""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import NoResponder
from .. import output
from ..failures import NeverHere
from ..options import DEFAULT_URL, ClientId, IdentityFile, Json, Token, Url, carry_out, connected, parse_payload


def ask(
    to: Annotated[str, typer.Argument(help="The client_id, or a work channel as room:channel.")],
    message: Annotated[str | None, typer.Argument(help="The text of the question.")] = None,
    payload: Annotated[str | None, typer.Option("--payload", "-p", help="Payload, a JSON object.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds for the answer.")] = 30.0,
    durable: Annotated[bool, typer.Option("--durable", help="Wait also for a client that is away now.")] = False,
    id: Annotated[
        str | None,
        typer.Option("--id", help="Id of the question. The same --client-id may ask again, and gets the reply."),
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Ask and print the reply: arqonbus ask adder -p '{"a": 1, "b": 2}'. If nobody is there, it ends with 5 at once."""
    body = parse_payload(payload)
    if message is None and body is None:
        raise typer.BadParameter("Give a text, or --payload.")

    async def show() -> None:
        async with connected(url, token, client_id, identity) as bus:
            try:
                reply = await bus.ask(to, message, payload=body, timeout=timeout, durable=durable, id=id)
            except NoResponder:
                if not durable:
                    raise
                raise NeverHere(f"No client of the name {to} was ever here, so none can come back.") from None
            if json_lines:
                output.message_as_json(reply)
            elif reply.text and not reply.payload:
                output.out.print(output.plain(reply.text))
            else:
                output.as_json(reply.payload)

    carry_out(url, show())
