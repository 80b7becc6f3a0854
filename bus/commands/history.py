"""history."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .. import log
from ..log.store import parse_moment
from ..permissions import Actor
from ..protocol.errors import BusError
from ..protocol.names import WHOLE, Address
from ..protocol.routing import resolve
from ..services import channels as channel_service
from ..services import clients as client_service
from .base import Answer, Context, Parameters, command

Position = Annotated[int | str | None, Meta(description="A seq, or an ISO time.")]


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
        if recent is not None:
            more = recent[0][0] if recent and recent[0][0] > 1 else None
            return _answer(address, [frame for _, frame in recent], more)
    before, after = _position(parameters.before, "before"), _position(parameters.after, "after")
    answer: Answer = await context.port.run(
        lambda: read(
            context.actor,
            address,
            parameters.limit,
            before,
            after,
            parameters.type,
            parameters.sender,
            context.inbox_floor,
        )
    )
    return answer


def where(context: Context, parameters: HistoryParameters) -> Address:
    """The log that is asked for; a room alone is the whole room."""
    room, channel = parameters.room, parameters.channel
    if not room and not channel:
        room = context.room
        channel = None if context.channel == "control" else context.channel
    return resolve(room, channel, context.initial)


def read(
    actor: Actor,
    address: Address,
    limit: int,
    before: int | datetime | None,
    after: int | datetime | None,
    type: str | None,
    sender: str | None,
    inbox_floor: int = 0,
) -> Answer:
    """History from the database, for whoever may read it (an inbox: its owner, and senders their own messages)."""
    floor = 0
    ids = channel_service.readable_logs(actor, address)
    if address.is_inbox and not actor.system:
        if address.channel == actor.client_id:
            floor = inbox_floor
        elif not actor.client_id:
            ids = []
        else:
            # What somebody else sent under this id before is not the newcomer's to read.
            sender = actor.client_id
            floor = log.seq_at(ids[0], client_service.proven_since(actor.client_id)) if ids else 0
    if len(ids) > 1 and (isinstance(before, int) or isinstance(after, int)):
        raise BusError(
            "VALIDATION_ERROR",
            "A whole room has no common seq; give `before` and `after` as times.",
            [{"field": "before"}, {"field": "after"}],
        )
    rows = log.history(ids, limit=limit, before=before, after=after, type=type, sender=sender, floor=floor)
    more: Any = None
    if len(rows) == limit:
        ascending = after is not None and before is None
        edge = rows[-1] if ascending else rows[0]
        more = edge[2] if len(ids) == 1 else _time_of(edge[3])
    return _answer(address, [row[3] for row in rows], more)


def _answer(address: Address, messages: list[bytes], more: Any) -> Answer:
    result = {
        "room": address.room,
        "channel": None if address.channel == WHOLE else address.channel,
        "messages": [msgspec.Raw(frame) for frame in messages],
        "next": more,
    }
    return Answer(f"{len(messages)} messages", result)


def _time_of(frame: bytes) -> str:
    value: str = msgspec.json.decode(frame)["timestamp"]
    return value


def _position(value: int | str | None, field: str) -> int | datetime | None:
    if not isinstance(value, str):
        return value
    if value.isdigit():
        return int(value)
    moment = parse_moment(value)
    if moment is None:
        raise BusError("VALIDATION_ERROR", details=[{"field": field, "message": f"`{field}` is a seq or an ISO time."}])
    return moment
