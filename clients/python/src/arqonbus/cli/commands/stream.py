"""``arqonbus stream``: standard input as one message that grows."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import failures, output, stdin
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
    parse_payload,
)


def stream(
    address: Annotated[str, typer.Argument(help="room:channel, or pm:<client_id> for one client.")],
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", help="Payload of the opening, a JSON object.")
    ] = None,
    parts: Annotated[
        bool, typer.Option("--parts", help="Each line is a JSON object, and the message has parts instead of a text.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run. The same run again goes on with the same message.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="With --run: append to what an earlier process wrote, and keep it.")
    ] = False,
    create: Create = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    client_id: ClientId = None,
    identity: IdentityFile = None,
    json_lines: Json = False,
) -> None:
    """Write standard input as one message that grows: some-llm | arqonbus stream chat:42.

    The end of the input completes the message. Ctrl+C aborts it. If a reader stops it, the command ends with 8.
    """
    check_target(address)
    body = parse_payload(payload)

    async def write() -> None:
        async with connected(url, token, client_id, identity, watch=True) as bus:
            if not create:
                await must_be_there(bus, [address])
            mode = "parts" if parts else "text"
            async with bus.stream(address, run=run, keep=keep, payload=body, mode=mode) as out:
                output.say(f"writing {out.of} to {address}")
                await out.pipe(stdin.objects() if parts else stdin.texts())
            if json_lines:
                row = {"of": out.of, "seq": out.seq, "end_seq": out.end_seq, "state": out.state, "parts": out.have}
                output.as_json({**row, "untaken": list(out.untaken)})
            else:
                output.say(f"{address} #{out.end_seq}, {out.state}, {out.have} parts", "green")
            if out.state == "stopped":
                raise failures.Stopped(f"A reader stopped {out.of}.")

    carry_out(url, write())
