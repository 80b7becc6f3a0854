"""history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .. import log
from ..log import Place
from ..log.store import parse_moment
from ..protocol.errors import BusError
from ..protocol.names import WHOLE, Address
from ..protocol.routing import resolve
from ..services import channels as channel_service
from ..services import clients as client_service
from .base import Answer, Context, Parameters, command

Position = Annotated[
    Annotated[int, Meta(ge=0, le=2**63 - 1)] | str | None,
    Meta(description="A seq, an ISO time, or the `next` of the page before."),
]

#: Frames of one answer, in which they stand twice (contract §5); many clients take no frame above 1 MiB.
MOST_BYTES = 384 * 1024
#: How a place between the logs of a room looks as a cursor.
PLACE = "row:"


class HistoryParameters(Parameters):
    """Parameters of ``history``."""

    room: Annotated[str | None, Meta(description="Room (with all of its channels), or room:channel.")] = None
    channel: Annotated[str | None, Meta(description="One channel.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Messages at most.")] = 50
    before: Position = None
    after: Position = None
    type: Annotated[str | None, Meta(description="Only messages of this type.")] = None
    sender: Annotated[str | None, Meta(description="Only messages from this client_id.")] = None


@command("history", HistoryParameters, errors=("ROOM_NOT_FOUND", "CHANNEL_NOT_FOUND", "FORBIDDEN"))
async def history(context: Context, parameters: HistoryParameters) -> Answer:
    """Past messages, oldest first: the newest ones, or those before or after a position."""
    address = where(context, parameters)
    plain = parameters.before is parameters.after is parameters.type is parameters.sender is None
    if plain:
        recent = context.port.recent(address, parameters.limit)
        if recent is not None and sum(len(frame) for _, frame in recent) <= MOST_BYTES:
            more = recent[0][0] if recent and recent[0][0] > 1 else None
            return _answer(address, [frame for _, frame in recent], more)
    before, after = _position(parameters.before, "before"), _position(parameters.after, "after")
    answer: Answer = await context.port.run(lambda: read(context, address, parameters, before, after))
    return answer


def where(context: Context, parameters: HistoryParameters) -> Address:
    """The log that is asked for; a room alone is the whole room."""
    room, channel = context.named(parameters.room, parameters.channel)
    return resolve(room, channel, context.initial)


def read(
    context: Context,
    address: Address,
    parameters: HistoryParameters,
    before: int | datetime | Place | None,
    after: int | datetime | Place | None,
) -> Answer:
    """History from the database, for whoever may read it (an inbox: its owner, and senders their own messages)."""
    actor, sender, floor = context.actor, parameters.sender, 0
    ids = channel_service.readable_logs(actor, address)
    if address.is_inbox and not actor.system:
        if address.channel == actor.client_id:
            floor = context.inbox_floor
        elif not actor.client_id:
            ids = []
        else:
            # What somebody else sent under this id before is not the newcomer's to read.
            sender = actor.client_id
            floor = log.seq_at(ids[0], client_service.proven_since(actor.client_id)) if ids else 0
    if len(ids) > 1 and (isinstance(before, int) or isinstance(after, int)):
        raise BusError(
            "VALIDATION_ERROR",
            "A whole room has no common seq; give `before` and `after` as times, or as the `next` of a page.",
            [{"field": "before"}, {"field": "after"}],
        )
    rows, more = log.history(
        ids,
        limit=parameters.limit,
        before=before,
        after=after,
        type=parameters.type,
        sender=sender,
        floor=floor,
        most_bytes=MOST_BYTES,
    )
    cursor: Any = None
    if more:
        edge = rows[-1] if after is not None and before is None else rows[0]
        cursor = edge[2] if len(ids) == 1 else f"{PLACE}{edge[0]}"
    return _answer(address, [row[3] for row in rows], cursor)


def _answer(address: Address, messages: list[bytes], more: Any) -> Answer:
    result = {
        "room": address.room,
        "channel": None if address.channel == WHOLE else address.channel,
        "messages": [msgspec.Raw(frame) for frame in messages],
        "next": more,
    }
    return Answer(f"{len(messages)} messages", result)


def _position(value: int | str | None, field: str) -> int | datetime | Place | None:
    if not isinstance(value, str):
        return value
    digits = value.removeprefix(PLACE)
    if digits.isascii() and digits.isdigit() and len(digits) < 19:
        return Place(int(digits)) if digits != value else int(digits)
    moment = parse_moment(value)
    if moment is None:
        raise BusError("VALIDATION_ERROR", details=[{"field": field, "message": f"`{field}` is a seq or an ISO time."}])
    return moment
