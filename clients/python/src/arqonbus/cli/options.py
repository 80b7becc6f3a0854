"""What the commands have in common: their options, and a connection whose errors become words and exit codes."""

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
    """A command whose switches are shown without a value in its help: they take none."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments."""
        return _plain(super().get_params(ctx))


class Group(TyperGroup):
    """The same for what is said before the command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options."""
        return _plain(super().get_params(ctx))


def _plain(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


Url = Annotated[str, typer.Option("--url", envvar="ARQONBUS_URL", help="The bus.", show_default=True)]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="ARQONBUS_TOKEN", help="Access token (better in the environment).", show_envvar=True
    ),
]
ClientId = Annotated[
    str | None, typer.Option("--client-id", help="Your client_id; without it the server makes one up.")
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        help="File that keeps your client_id and how far your inbox was read, for the next time.",
        dir_okay=False,
    ),
]
Create = Annotated[
    bool, typer.Option("--create", help="Make the room and channel if they are not there; do not look first.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Address = Annotated[str, typer.Argument(help="room:channel, for example science:explore.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", help="A seq, a time (ISO), or how long ago: 30s, 10m, 2h, 1d.")
]
DEFAULT_URL = "ws://localhost:8765/"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str | None) -> int | str | timedelta | None:
    """``10m``, a seq, or an ISO time. Raises ``typer.BadParameter``."""
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


def parse_payload(text: str | None) -> dict[str, Any] | None:
    """The JSON object of ``--payload``. Raises ``typer.BadParameter``."""
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
    """Raise ``typer.BadParameter`` for a room alone: a forgotten channel must not reach everybody in the room."""
    if address and ":" not in address:
        raise typer.BadParameter(
            f"{address!r} names no channel. Write {address}:CHANNEL for a channel, '{address}:*' for everybody in the room, "
            f"or pm:{address} for the client of that name."
        )


def carry_out(url: str, work: Coroutine[Any, Any, None]) -> None:
    """Run a command to its end; errors become words and an exit code."""
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(failures.INTERRUPTED) from None
    except BrokenPipeError:
        # `| head` has seen enough. Python would complain once more when it flushes.
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
    """A bus for one command; with ``watch`` breaks are told and healed, else they end the command."""

    def tell(state: State) -> None:
        if state is State.RECONNECTING:
            output.say("connection lost, coming back …", "yellow")
        elif state is State.CONNECTED and told:
            output.say("connected again", "green")
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
