"""The commands ``status``, ``ping`` and ``help``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from ..models import wire_time
from ..protocol.errors import ErrorCode
from ..services import channel_lists, totals
from ..services import clients as client_service
from ..shapes import ActiveChannel, Client, Server, Shape, Stats, WireTime
from ..version import PROTOCOL, VERSION
from .base import LISTING, Answer, Context, Description, Parameters, command, find, registry


class StatusParameters(Parameters):
    """Parameters of ``status``."""

    limit: Annotated[
        int, Meta(ge=1, le=500, description="Maximum number of clients, and of channels, on the page.")
    ] = 100
    after: Annotated[str, Meta(description="The `next` of the previous page, for more clients.")] = ""
    after_channel: Annotated[str, Meta(description="The `next_channel` of the previous page, for more channels.")] = ""


class ServerFacts(Server, frozen=True, kw_only=True):
    """Facts about the server."""

    started_at: WireTime
    uptime_seconds: float


class StatusResult(Shape, frozen=True, kw_only=True):
    """The server, its figures, and the channels and clients that you may see."""

    server: ServerFacts
    stats: Stats
    channels: list[ActiveChannel]
    next_channel: Annotated[
        str | None, Meta(description="Value of `after_channel` for the next page of channels; null at the end.")
    ]
    clients: list[Client]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page of clients; null at the end.")]


@command("status", StatusParameters, StatusResult, cost=LISTING, looks=True)
async def status(context: Context, parameters: StatusParameters) -> Answer:
    """Show the server, its figures, and the channels and clients that you may see."""
    started = context.process.started_at

    server = ServerFacts(
        version=VERSION,
        protocol=PROTOCOL,
        started_at=wire_time(started),
        uptime_seconds=round((datetime.now(UTC) - started).total_seconds(), 3),
    )

    def read() -> StatusResult:
        channels, next_channel = channel_lists.active_channels(
            context.actor, limit=parameters.limit, after=parameters.after_channel
        )
        clients, after = client_service.list_clients(context.actor, limit=parameters.limit, after=parameters.after)
        return StatusResult(
            server=server,
            stats=totals.stats(),
            channels=channels,
            next_channel=next_channel,
            clients=clients,
            next=after,
        )

    result: StatusResult = await context.process.ask(read)
    return Answer(f"{result.stats.active_connections} clients in {result.stats.active_channels} channels", result)


class PingParameters(Parameters):
    """Parameters of ``ping``."""

    echo: Annotated[Any, Meta(description="Value that the answer repeats.")] = None


class PingResult(Shape, frozen=True, kw_only=True):
    """The answer to a ping."""

    pong: bool
    timestamp: WireTime
    echo: Any | UnsetType = UNSET


@command("ping", PingParameters, PingResult, looks=True)
async def ping(context: Context, parameters: PingParameters) -> Answer:
    """Answer with pong."""
    echo = UNSET if parameters.echo is None else parameters.echo
    return Answer("pong", PingResult(pong=True, timestamp=wire_time(datetime.now(UTC)), echo=echo))


class HelpParameters(Parameters):
    """Parameters of ``help``."""

    command: Annotated[str | None, Meta(description="Name of one command. The default is all commands.")] = None


class HelpResult(Shape, frozen=True, kw_only=True):
    """The descriptions of the commands."""

    commands: list[Description]


@command("help", HelpParameters, HelpResult, errors=(ErrorCode.UNKNOWN_COMMAND,), looks=True)
async def show_help(context: Context, parameters: HelpParameters) -> Answer:
    """List the commands and their parameters."""
    if parameters.command:
        found = find(parameters.command)
        return Answer(found.summary, HelpResult(commands=[found.describe()]))
    described = [registry[name].describe() for name in sorted(registry)]
    return Answer(f"{len(registry)} commands", HelpResult(commands=described))
