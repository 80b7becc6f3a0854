"""Options that the commands share, and a connection that turns errors into messages and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..bus import Bus
from ..connecting import connect
from ..states import State
from . import failures, output


class Command(TyperCommand):
    """A command whose help shows switches without a value."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """The same for the options before the command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return _plain(super().get_params(ctx))


def _plain(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


Url = Annotated[str, typer.Option("--url", envvar="ARQONBUS_URL", help="URL of the bus.", show_default=True)]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="ARQONBUS_TOKEN", help="Access token. The environment is the safer place.", show_envvar=True
    ),
]
ClientId = Annotated[
    str | None, typer.Option("--client-id", help="Your client_id. By default the server makes one up.")
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        help="File that stores your identity and your place in the inbox for the next time.",
        dir_okay=False,
    ),
]
Create = Annotated[
    bool, typer.Option("--create", help="Create a missing room and channel, without a check of the address.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Address = Annotated[str, typer.Argument(help="room:channel, for example science:explore.")]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Start after a seq, an ISO time, or a period before now: 30s, 10m, 2h, 1d."),
]
DEFAULT_URL = "ws://localhost:8765/"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str | None) -> int | str | timedelta | None:
    """Parse ``10m``, a seq or an ISO time. Raises ``typer.BadParameter``."""
    if text is None:
        return None
    if text.isdigit():
        return int(text)
    if match := _DURATION.fullmatch(text):
        return timedelta(**{_UNITS[match[2]]: float(match[1])})
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a seq, nor an ISO time, nor a duration like 30s, 10m, 2h or 1d."
        ) from None
    return text


def parse_later(text: str | None) -> str | timedelta | None:
    """Parse ``10m`` from now, or an ISO time. Raises ``typer.BadParameter``."""
    moment = parse_since(text)
    if isinstance(moment, int):
        raise typer.BadParameter(f"{text!r} has no unit. Write {text}s, {text}m or {text}h.")
    return moment


def parse_payload(text: str | None) -> dict[str, Any] | None:
    """Parse the JSON object of ``--payload``. Raises ``typer.BadParameter``."""
    if text is None:
        return None
    try:
        body = json.loads(text)
    except ValueError as problem:
        raise typer.BadParameter(f"--payload is not JSON: {problem}") from None
    if not isinstance(body, dict):
        raise typer.BadParameter("--payload must be a JSON object.")
    return body


def check_target(address: str) -> None:
    """Raise ``typer.BadParameter`` for a room alone. A forgotten channel must not send the message to the whole room."""
    if address and ":" not in address:
        raise typer.BadParameter(
            f"{address!r} names no channel. Write {address}:CHANNEL for a channel, '{address}:*' for the whole room, "
            f"or pm:{address} for the client {address}."
        )


def carry_out(url: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a command. An error becomes a message and an exit code."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(failures.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader, such as `| head`, closed the pipe. Without this, Python would report it again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as problem:  # noqa: BLE001 - `explain` raises what it does not know
        code, what, hint = failures.explain(problem, url)
        output.fail(what, hint)
        raise typer.Exit(code) from None


@asynccontextmanager
async def connected(
    url: str,
    token: str | None,
    client_id: str | None = None,
    identity: Path | None = None,
    *,
    watch: bool = False,
    **options: Any,
) -> AsyncIterator[Bus]:
    """Yield a bus for one command. With ``watch`` it reports lost connections and reconnects for ever."""

    def tell(state: State) -> None:
        if state is State.RECONNECTING:
            output.say("connection lost, reconnecting …", "yellow")
        elif state is State.CONNECTED and told:
            output.say("reconnected", "green")
        told.append(state)

    told: list[State] = []
    async with connect(
        url,
        token=token,
        client_id=client_id,
        identity=identity,
        client_type="cli",
        reconnect=True,
        give_up_after=None if watch else 10.0,
        on_state=tell if watch else None,
        **options,
    ) as bus:
        yield bus
