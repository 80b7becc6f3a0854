"""Looking through the logs: who may read which of them, and pages over one channel, a room, or all that one may read."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db.models import Q

from ..log.pages import Found, Span, Wanted, read_page, seq_before
from ..models import Channel, Client, Message
from ..permissions import HISTORY, Actor, can
from ..protocol.errors import BusError
from ..protocol.names import EVERYONE, INBOX_ROOM, WHOLE, Address, inbox
from ..protocol.routing import resolve
from . import channels as channel_service
from . import clients as client_service

#: Logs that one page may look into.
MOST_LOGS = 200

Position = int | datetime


class Question(msgspec.Struct, frozen=True):
    """What is asked for. ``address`` None: every channel that the asker may read; ``room:*``: a room with all of its channels.

    ``before`` and ``after`` are a seq (of one log) or a time, both exclusive.
    """

    address: Address | None
    limit: int = 50
    before: Position | None = None
    after: Position | None = None
    descending: bool = True
    type: str | None = None
    sender: str | None = None
    text: str | None = None
    cursor: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Messages in the order asked for, and the cursor of the next page (None: this was the last)."""

    messages: list[Found]
    cursor: str | None


class _Log(msgspec.Struct, frozen=True):
    """A log that may be read, above ``floor``, and of whom since when (None: of everybody)."""

    id: int
    head: int
    started: datetime
    moved: datetime
    floor: int = 0
    senders: dict[str, datetime | None] | None = None


def page(actor: Actor, question: Question) -> Page:
    """The messages that ``question`` asks for and ``actor`` may read.

    Raises ``BusError`` ROOM_NOT_FOUND, CHANNEL_NOT_FOUND, FORBIDDEN, INVALID_NAME or VALIDATION_ERROR. Permission is looked at
    again for every page, whatever a cursor says.
    """
    logs = _readable(actor, question.address)
    if len(logs) > 1 and (isinstance(question.before, int) or isinstance(question.after, int)):
        raise BusError(
            "VALIDATION_ERROR",
            "Only a channel of its own has a seq; give `before` and `after` as times.",
            [{"field": field} for field in ("before", "after") if isinstance(getattr(question, field), int)],
        )
    positions = _read_cursor(question.cursor) if question.cursor else None
    spans = []
    for log in logs:
        span = _span(log, question)
        if positions is not None:
            if log.id not in positions:
                continue
            span = _resumed(span, positions[log.id], question.descending)
        if not span.empty:
            spans.append(span)
    if len(spans) > MOST_LOGS:
        raise BusError(
            "VALIDATION_ERROR",
            f"That are more than {MOST_LOGS} channels with messages; name a room or a channel, or a shorter time.",
            [{"field": "room"}],
        )
    wanted = Wanted(question.type, _senders(logs, question.sender), question.text)
    found, left = read_page(spans, wanted, limit=question.limit, descending=question.descending)
    return Page(found, _cursor(left, question.descending) if left else None)


def message(actor: Actor, address: Address, seq: int) -> bytes:
    """One message as it was delivered. Raises as :func:`page`, and NOT_FOUND where there is none, or not for ``actor``."""
    for log in _readable(actor, address, whole_room=False):
        row = Message.objects.filter(channel_id=log.id, seq=seq).values_list("frame", "sender", "created_at").first()
        if row and seq > log.floor and (log.senders is None or _sent(log.senders, row[1], row[2])):
            return row[0].encode()
    raise BusError("NOT_FOUND", f"There is no message {seq} in {address}.", [{"address": str(address), "seq": seq}])


def _readable(actor: Actor, address: Address | None, *, whole_room: bool = True) -> list[_Log]:
    rows = Channel.objects.values_list("id", "head", "created_at", "touched_at")
    if address is None:
        channels = Channel.objects.filter(Q(kind=Channel.Kind.CHANNEL) | Q(kind=Channel.Kind.ROOM), head__gt=0)
        ids = [
            channel.pk
            for channel in channels.select_related("room")
            if can(actor, HISTORY, channel.address, private=channel.room.private)
        ]
        return [_Log(*row) for row in rows.filter(pk__in=ids)]
    if address.is_inbox:
        return _inbox(actor, address)
    if address == EVERYONE or (address.channel == WHOLE and not whole_room):
        channel = Channel.objects.select_related("room").filter(room__name=address.room, name=WHOLE).first()
        if channel is None or not can(actor, HISTORY, address, private=channel.room.private):
            raise BusError("ROOM_NOT_FOUND", f"There is no room {address.room}.", [{"room": address.room}])
        ids = [channel.pk]
    else:
        ids = channel_service.readable_logs(actor, address)
    return [_Log(*row) for row in rows.filter(pk__in=ids)]


def _inbox(actor: Actor, address: Address) -> list[_Log]:
    """An inbox is read by its owner, and by senders as far as the messages are their own; not by admins.

    For everybody else it is empty, whether it exists or not.
    """
    if actor.scopes is not None and HISTORY not in actor.scopes:
        raise BusError("FORBIDDEN", f"You may not read history at {address}.", [{"action": HISTORY}])
    row = Channel.objects.filter(room__name=INBOX_ROOM, name=address.channel).first()
    if row is None:
        return []
    log = _Log(row.pk, row.head, row.created_at, row.touched_at)
    owner = Client.objects.filter(client_id=address.channel).first()
    mine = owner is not None and bool(owner.principal) and owner.principal == actor.principal
    if mine and owner is not None:
        actor = msgspec.structs.replace(actor, client_id=address.channel)
        floor = owner.inbox_floor
    else:
        floor = 0
    if can(actor, HISTORY, inbox(address.channel), private=True):
        return [msgspec.structs.replace(log, floor=floor)]
    senders = client_service.own_ids(actor)
    return [msgspec.structs.replace(log, senders=senders)] if senders else []


def _sent(senders: dict[str, datetime | None], sender: str, at: datetime) -> bool:
    since = senders.get(sender)
    return sender in senders and (since is None or at >= since)


def _senders(logs: list[_Log], sender: str | None) -> dict[str, datetime | None] | None:
    allowed = logs[0].senders if len(logs) == 1 else None
    if sender is None:
        return allowed
    if allowed is None:
        return {sender: None}
    return {sender: allowed[sender]} if sender in allowed else {}


def _span(log: _Log, question: Question) -> Span:
    low, high = log.floor, log.head + 1
    if isinstance(question.after, int):
        low = max(low, question.after)
    elif question.after is not None:
        # Times on the wire have milliseconds: what is shown with this very time is not after it.
        moment = question.after + timedelta(milliseconds=1)
        if log.moved < question.after:
            low = log.head
        elif log.started < moment:
            low = max(low, seq_before(log.id, moment, log.head))
    if isinstance(question.before, int):
        high = min(high, question.before)
    elif question.before is not None:
        if log.started >= question.before:
            high = 0
        elif log.moved >= question.before:
            high = min(high, seq_before(log.id, question.before, log.head) + 1)
    return Span(log.id, low, high)


def _resumed(span: Span, position: int, descending: bool) -> Span:
    if descending:
        return Span(span.channel_id, span.low, min(span.high, position))
    return Span(span.channel_id, max(span.low, position), span.high)


def _cursor(left: list[Span], descending: bool) -> str:
    positions = [[span.channel_id, span.high if descending else span.low] for span in left]
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(positions)).decode().rstrip("=")


def _read_cursor(text: str) -> dict[int, int]:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        positions: dict[int, int] = dict(msgspec.msgpack.decode(data, type=list[tuple[int, int]]))
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise BusError(
            "VALIDATION_ERROR",
            "This is not a cursor that the bus gave out.",
            [{"field": "cursor", "message": "Take it from `next` of the page before."}],
        ) from None
    return positions


def address_of(room: str | None, channel: str | None) -> Address | None:
    """What a question's ``room`` and ``channel`` stand for; None for neither.

    Raises ``BusError`` INVALID_NAME or VALIDATION_ERROR.
    """
    if not room and not channel:
        return None
    if channel and not room and ":" not in channel:
        raise BusError(
            "VALIDATION_ERROR",
            "Which room? Give `room` too, or the channel as room:channel.",
            [{"field": "room", "message": "`room` is missing."}],
        )
    return resolve(room, channel, EVERYONE)


def describe(found: Found) -> Any:
    """A message as a value that keeps the very bytes that were delivered."""
    return msgspec.Raw(found.frame)
