"""The commands ``status``, ``ping`` and ``help``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta

from ..models import wire_time
from ..protocol.errors import ErrorCode
from ..services import channel_lists, totals
from ..services import clients as client_service
from ..version import PROTOCOL, VERSION
from .base import LISTING, Answer, Context, Parameters, command, find, registry


class StatusParameters(Parameters):
    """Parameters of ``status``."""

    limit: Annotated[
        int, Meta(ge=1, le=500, description="Maximum number of clients, and of channels, on the page.")
    ] = 100
    after: Annotated[str, Meta(description="The `next` of the previous page, for more clients.")] = ""
    after_channel: Annotated[str, Meta(description="The `next_channel` of the previous page, for more channels.")] = ""


@command("status", StatusParameters, cost=LISTING, looks=True)
async def status(context: Context, parameters: StatusParameters) -> Answer:
    """Show the server, its figures, and the channels and clients that you may see."""
    started = context.process.started_at

    def read() -> dict[str, Any]:
        channels, next_channel = channel_lists.active_channels(
            context.actor, limit=parameters.limit, after=parameters.after_channel
        )
        clients, after = client_service.list_clients(context.actor, limit=parameters.limit, after=parameters.after)
        return {
            "stats": totals.stats(),
            "channels": channels,
            "next_channel": next_channel,
            "clients": clients,
            "next": after,
        }

    result = await context.process.ask(read)
    stats = result["stats"]
    server = {
        "version": VERSION,
        "protocol": PROTOCOL,
        "started_at": wire_time(started),
        "uptime_seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
    }
    return Answer(
        f"{stats['active_connections']} clients in {stats['active_channels']} channels",
        {"server": server, **result},
    )


class PingParameters(Parameters):
    """Parameters of ``ping``."""

    echo: Annotated[Any, Meta(description="Value that the answer repeats.")] = None


@command("ping", PingParameters, looks=True)
async def ping(context: Context, parameters: PingParameters) -> Answer:
    """Answer with pong."""
    now = wire_time(datetime.now(UTC))
    result: dict[str, Any] = {"pong": True, "timestamp": now}
    if parameters.echo is not None:
        result["echo"] = parameters.echo
    return Answer("pong", result)


class HelpParameters(Parameters):
    """Parameters of ``help``."""

    command: Annotated[str | None, Meta(description="Name of one command. The default is all commands.")] = None


@command("help", HelpParameters, errors=(ErrorCode.UNKNOWN_COMMAND,), looks=True)
async def show_help(context: Context, parameters: HelpParameters) -> Answer:
    """List the commands and their parameters."""
    if parameters.command:
        found = find(parameters.command)
        return Answer(found.summary, {"commands": [found.describe()]})
    return Answer(f"{len(registry)} commands", {"commands": [registry[name].describe() for name in sorted(registry)]})
