"""The command ``history``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, cast

import msgspec
from msgspec import Meta

from ..log.store import parse_moment
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import WHOLE, Address
from ..protocol.routing import resolve
from ..services import history as history_service
from ..services.amendments import MARK as AMENDMENT
from ..services.folding import MARK
from ..shapes import Message, Shape
from .base import LOOK, Answer, Context, Parameters, command

Position = Annotated[
    Annotated[int, Meta(ge=0, le=2**63 - 1)] | str | None,
    Meta(description="A seq, an ISO time, or the `next` of the previous page."),
]

#: Bytes of messages in one answer. An answer contains them twice, and many clients accept no frame above 1 MiB.
MOST_BYTES = 384 * 1024


class HistoryParameters(Parameters):
    """Parameters of ``history``."""

    room: Annotated[str | None, Meta(description="Room with all of its channels, or room:channel.")] = None
    channel: Annotated[str | None, Meta(description="One channel.")] = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of messages.")] = 50
    before: Position = None
    after: Position = None
    type: Annotated[str | None, Meta(description="Only messages of this type.")] = None
    sender: Annotated[str | None, Meta(description="Only messages from this client_id.")] = None
    fold: Annotated[
        bool, Meta(description="Each streamed message is one message, and each message has its amendments in it.")
    ] = False


class HistoryResult(Shape, frozen=True, kw_only=True):
    """Messages as they were delivered, oldest first."""

    room: str
    channel: str | None
    messages: list[Message]
    next: Annotated[
        int | str | None, Meta(description="Value of `before` or `after` for the next page; null at the end.")
    ]


@command(
    "history",
    HistoryParameters,
    HistoryResult,
    errors=(ErrorCode.ROOM_NOT_FOUND, ErrorCode.CHANNEL_NOT_FOUND, ErrorCode.FORBIDDEN),
    cost=LOOK,
    looks=True,
)
async def history(context: Context, parameters: HistoryParameters) -> Answer:
    """Past messages, oldest first: the newest ones, or those before or after a position."""
    address = where(context, parameters)
    plain = parameters.before is parameters.after is parameters.type is parameters.sender is None
    if plain:
        recent = context.process.recent(address, parameters.limit)
        if recent is not None and _from_memory([frame for _, frame in recent], fold=parameters.fold):
            more = recent[0][0] if recent and recent[0][0] > 1 else None
            # The newest messages may come from a process of an older version.
            return _answer(address, [legible(frame, seq) for seq, frame in recent], more)
    answer: Answer = await context.process.ask(read, context, address, parameters)
    return answer


def _from_memory(frames: list[bytes], *, fold: bool) -> bool:
    """Whether the newest messages may be answered from memory: they are small, and none of them has to be folded."""
    # The newest messages have no amendments but those among them.
    if fold and any(MARK in frame or AMENDMENT in frame for frame in frames):
        return False
    return sum(map(len, frames)) <= MOST_BYTES


def where(context: Context, parameters: HistoryParameters) -> Address:
    """The log of the request. A room without a channel means the whole room."""
    room, channel = context.named(parameters.room, parameters.channel)
    return resolve(room, channel, context.initial)


def read(context: Context, address: Address, parameters: HistoryParameters) -> Answer:
    """History from the database. Raises ``BusError`` VALIDATION_ERROR, and the errors of :func:`history.page`."""
    forward = parameters.after is not None and parameters.before is None
    before, cursor, _ = _position(parameters.before, "before")
    after, resumed, start = _position(parameters.after, "after")
    if resumed is not None:
        if cursor is not None:
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                "Only one of `before` and `after` may be the `next` of a page.",
                [{"field": "before"}, {"field": "after"}],
            )
        cursor, after, forward = resumed, start, True
    page = history_service.page(
        context.actor,
        history_service.Question(
            address,
            limit=parameters.limit,
            before=before,
            after=after,
            descending=not forward,
            type=parameters.type,
            sender=parameters.sender,
            cursor=cursor,
            most_bytes=MOST_BYTES,
            inbox_floor=context.inbox_floor,
            fold=parameters.fold,
        ),
    )
    more: int | str | None = page.seq
    if address.is_whole_room and page.cursor:
        more = _place("after" if forward else "before", page.cursor, after if forward else None)
    found = page.messages if forward else page.messages[::-1]
    return _answer(address, [message.frame for message in found], more)


def _answer(address: Address, messages: list[bytes], more: int | str | None) -> Answer:
    result = HistoryResult(
        room=address.room,
        channel=None if address.channel == WHOLE else address.channel,
        # The kept bytes go out as they are.
        messages=cast("list[Message]", [msgspec.Raw(frame) for frame in messages]),
        next=more,
    )
    return Answer(f"{len(messages)} messages", result)


def _place(field: str, cursor: str, start: int | datetime | None) -> str:
    """The cursor of a whole room as a value of ``field``.

    A forward cursor also contains the start time of the read. Channels without messages so far are read from that time.
    """
    return f"{field}:{cursor}" + (f"@{start.isoformat()}" if isinstance(start, datetime) else "")


def _position(value: int | str | None, field: str) -> tuple[int | datetime | None, str | None, int | datetime | None]:
    """The value of ``before`` or ``after``: a seq or time; or a cursor with the start time of its read."""
    if not isinstance(value, str):
        return value, None, None
    if value.startswith(f"{field}:"):
        cursor, _, start = value.removeprefix(f"{field}:").partition("@")
        return None, cursor, parse_moment(start)
    if value.isascii() and value.isdigit() and len(value) < 19:
        return int(value), None, None
    moment = parse_moment(value)
    if moment is None:
        message = f"`{field}` must be a seq, an ISO time, or the `next` of a page that was read with `{field}`."
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message}])
    return moment, None, None
