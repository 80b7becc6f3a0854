"""The commands about clients: set one's own status, and find others."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from .. import shapes
from ..models import Client
from ..protocol.errors import ErrorCode
from ..protocol.names import Address, parse_address
from ..protocol.routing import invalid_name
from ..services import clients as client_service
from ..services.statuses import Said
from ..shapes import Shape
from .base import LISTING, LOOK, Answer, Context, Parameters, command

#: The largest number of tokens: integers of JSON that every reader reads alike.
MOST_TOKENS = 2**53 - 1


class SetStatusParameters(Parameters):
    """Parameters of ``set_status``."""

    status: Annotated[
        Annotated[str, Meta(min_length=1, max_length=32)] | None, Meta(description="One word, such as working.")
    ] = None
    task: Annotated[Annotated[str, Meta(max_length=200)] | None, Meta(description="The task that you work on.")] = None
    text: Annotated[Annotated[str, Meta(max_length=500)] | None, Meta(description="A text for people.")] = None
    tokens: Annotated[
        Annotated[int, Meta(ge=0, le=MOST_TOKENS)] | None,
        Meta(description="Number of tokens that you have used so far."),
    ] = None
    ttl: Annotated[
        Annotated[float, Meta(ge=1, le=3600)] | None,
        Meta(description="Seconds after which the status ends by itself. Without it, it ends with the connection."),
    ] = None


# It may become a notice in each of the caller's channels.
@command("set_status", SetStatusParameters, shapes.StatusOf, cost=LOOK, beside=True)
async def set_status(context: Context, parameters: SetStatusParameters) -> Answer:
    """Say what you do now. An absent field is cleared, and a call without fields ends the status."""
    said = Said(parameters.status, parameters.task, parameters.text, parameters.tokens, parameters.ttl)
    status = await context.process.set_status(said)
    result = shapes.StatusOf(client_id=context.actor.client_id, status=status)
    return Answer("The status is set" if status is not None else "The status is cleared", result)


class ClientsParameters(Parameters):
    """Parameters of ``list_clients``."""

    type: Annotated[str | None, Meta(description="Only clients of this type, such as ai-agent.")] = None
    status: Annotated[str | None, Meta(description="Only clients with this status.")] = None
    skill: Annotated[str | None, Meta(description="Only clients whose card names this skill.")] = None
    channel: Annotated[str | None, Meta(description="Only members of this channel, as room:channel.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of clients on the page.")] = 100
    after: Annotated[str, Meta(description="The `next` of the previous page.")] = ""


class ClientsResult(Shape, frozen=True, kw_only=True):
    """A page of clients."""

    clients: list[shapes.Client]
    next: Annotated[str | None, Meta(description="Value of `after` for the next page; null at the end.")]


@command(
    "list_clients",
    ClientsParameters,
    ClientsResult,
    errors=(ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN, ErrorCode.INVALID_NAME),
    cost=LISTING,
    looks=True,
)
async def list_clients(context: Context, parameters: ClientsParameters) -> Answer:
    """Find clients by type, status, skill or channel, among those that you may see."""
    channel = None if parameters.channel is None else _channel(parameters.channel)

    def read() -> tuple[list[shapes.Client], str | None]:
        rows = Client.objects.all()
        if parameters.type is not None:
            rows = rows.filter(client_type=parameters.type)
        if parameters.status is not None:
            rows = client_service.with_status(rows, parameters.status)
        if parameters.skill is not None:
            rows = client_service.with_skill(rows, parameters.skill)
        return client_service.list_clients(
            context.actor, limit=parameters.limit, after=parameters.after, clients=rows, channel=channel
        )

    clients, after = await context.process.ask(read)
    return Answer(f"{len(clients)} clients", ClientsResult(clients=clients, next=after))


def _channel(text: str) -> Address:
    address = parse_address(text)
    if address is None:
        raise invalid_name("channel", text, f"{text[:80]!r} is not an address of the form room:channel.")
    return address
