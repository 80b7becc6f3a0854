"""History: which logs an actor may read, and pages over one channel, a room, or every readable channel."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from django.db.models import QuerySet

from ..auth.permissions import HISTORY, Actor, can, require
from ..directory.messages import find_row
from ..log import seq_before
from ..log.pages import Found, Span, Wanted, read_page
from ..models import Channel, Message, Room
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import EVERYONE, INBOX_ROOM, WHOLE, Address, is_client_id
from ..protocol.routing import invalid_name, resolve
from . import channels as channel_service
from . import clients as client_service
from . import replica
from .folding import Folding
from .visibility import channels_for
from .walking import STEP

#: Logs that one page may read, and channels that it may check to find them.
MOST_LOGS, MOST_CANDIDATES = 200, 2_000
#: The newest messages of the bus among which one is searched by its id alone, and those with the same id that are looked at.
NEWEST, MOST_SAME = 50_000, 20
#: Default limit of the bytes of all frames of a page. A single frame may be larger.
PAGE_BYTES = 4 * 1024 * 1024

Position = int | datetime


class Question(msgspec.Struct, frozen=True):
    """A question for a page of history.

    ``address`` None asks for every channel that the actor may read; ``room:*`` for a room with all of its channels.
    ``before`` and ``after`` are a seq (of one log) or a time. Both are exclusive. ``most_bytes`` limits the bytes of the
    frames of a page, unless it is a single frame. ``inbox_floor`` is set when the actor is connected as its
    ``client_id``. Above this seq the inbox of that id is its own. With ``fold``, a streamed message is one message
    (``folding``), and each message has its amendments. A page may then be shorter. With ``at_end`` too, a streamed message
    stands where it ended, and not at all while it grows, and amendments stay messages of their own.
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
    most_bytes: int = PAGE_BYTES
    inbox_floor: int | None = None
    fold: bool = False
    at_end: bool = False


class Page(msgspec.Struct, frozen=True):
    """Messages in the requested order, and the cursor of the next page (None: this was the last page).

    For a page of one log, ``seq`` gives the same position: the next page lies before it, or after it when the oldest come
    first.
    """

    messages: list[Found]
    cursor: str | None
    seq: int | None


class _Log(msgspec.Struct, frozen=True):
    """A readable log. Only messages above ``floor`` may be read.

    ``senders`` limits them to these senders, each since a time (None: always). Without it, messages of every sender may
    be read.
    """

    id: int
    head: int
    epoch: str
    started: datetime
    moved: datetime
    floor: int = 0
    senders: dict[str, datetime | None] | None = None

    @classmethod
    def of(cls, channel: Channel, *, floor: int = 0, senders: dict[str, datetime | None] | None = None) -> _Log:
        """Return the log of a channel, restricted as the fields of this class say."""
        return cls(channel.pk, channel.head, channel.epoch, channel.created_at, channel.touched_at, floor, senders)


def page(actor: Actor, question: Question) -> Page:
    """Return the messages that ``question`` asks for and ``actor`` may read.

    Raises ``BusError`` ROOM_NOT_FOUND, CHANNEL_NOT_FOUND, FORBIDDEN, INVALID_NAME or VALIDATION_ERROR. Permissions are
    checked again for every page, whatever its cursor says.
    """
    positions = _read_cursor(question.cursor) if question.cursor is not None else {}
    logs = _readable(actor, question, positions)
    if len(logs) > 1 and (isinstance(question.before, int) or isinstance(question.after, int)):
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "Several channels have no common seq. Give `before` and `after` as times.",
            [{"field": field} for field in ("before", "after") if isinstance(getattr(question, field), int)],
        )
    spans, finished = [], []
    for log in logs:
        span = _span(log, question)
        if log.id in positions:
            span = _resumed(span, positions[log.id], question.descending)
            if span.empty:
                finished.append(span)
        elif question.cursor is not None and question.descending:
            continue  # This log has no older messages left. (Forward, it may have new messages.)
        if not span.empty:
            spans.append(span)
    if len(spans) > MOST_LOGS:
        raise _too_many_logs()
    wanted = Wanted(question.type, _senders(logs, question.sender), question.text)
    epochs = {log.id: log.epoch for log in logs}
    needed = {span.channel_id: replica.Needed(span.high - 1, epochs[span.channel_id]) for span in spans}
    page_of = partial(read_page, spans, wanted, descending=question.descending, most_bytes=question.most_bytes)

    def read(limit: int) -> tuple[list[Found], list[Span]]:
        return replica.read(needed, partial(page_of, limit=limit))

    found, left = read(question.limit)
    if question.fold:
        fold = partial(Folding, searching=question.text is not None, at_end=question.at_end)
        folding = fold(found, question.most_bytes)
        if folding.fitting < len(found):
            # What is folded in makes the page too large. A shorter one also says where the next one begins.
            found, left = read(folding.fitting)
            folding = fold(found, question.most_bytes)
        found = folding.ended() if question.at_end else folding.folded(filtered=not wanted.everything)
    more = [span for span in left if not span.empty]
    if not more:
        return Page(found, None, None)
    cursor = _cursor(more if question.descending else left + finished, question.descending)
    seq = (more[0].high if question.descending else more[0].low) if len(logs) == 1 else None
    return Page(found, cursor, seq)


def message(actor: Actor, address: Address, seq: int, *, fold: bool = False) -> bytes:
    """Return the frame of one message as it was delivered, readable by every JSON parser; with ``fold`` as in folded history.

    Raises as :func:`page`, and NOT_FOUND for a message that does not exist or that ``actor`` may not read.
    """
    for log in _readable(actor, Question(address), {}, whole_room=False):
        found = _one(log, seq)
        if found is not None:
            return _shown(found, fold=fold)
    raise BusError(
        ErrorCode.NOT_FOUND, f"There is no message {seq} in {address}.", [{"address": str(address), "seq": seq}]
    )


def message_of(
    actor: Actor, uid: str, *, address: Address | None = None, seq: int | None = None, fold: bool = False
) -> bytes:
    """Return the frame of the message with the id ``uid``, as :func:`message`.

    No index has the ids. With ``address``, the message is searched among the newest of that log, or at its ``seq``. Without it
    the newest :data:`NEWEST` messages of the bus are searched. Raises as :func:`message`.
    """
    if address is not None:
        for log in _readable(actor, Question(address), {}, whole_room=False):
            row = find_row(log.id, uid, seq)
            found = _one(log, row[0]) if row is not None else None
            if found is not None:
                return _shown(found, fold=fold)
    else:
        newest = Message.objects.order_by("-id").values_list("id", flat=True).first() or 0
        rows = Message.objects.filter(uid=uid, id__gt=newest - NEWEST).select_related("channel__room").order_by("-id")
        for row_ in rows.defer("frame")[:MOST_SAME]:
            with suppress(BusError):
                return message(actor, row_.channel.address, row_.seq, fold=fold)
    raise BusError(ErrorCode.NOT_FOUND, "There is no such message.", [{"id": uid}])


def _one(log: _Log, seq: int) -> Found | None:
    """Return a message of a readable log, or None if it does not exist or may not be read."""
    rows = Message.objects.filter(channel_id=log.id, seq=seq)
    row = rows.values_list("created_at", "id", "sender", "frame").first()
    if row is None or seq <= log.floor or (log.senders is not None and not _sent(log.senders, row[2], row[0])):
        return None
    return Found(row[0], row[1], log.id, seq, legible(row[3].encode(), seq))


def _shown(found: Found, *, fold: bool) -> bytes:
    page = Folding([found], PAGE_BYTES).folded(filtered=True) if fold else []
    # An amendment has no place in a folded page. By its own seq, it is shown as it is.
    return page[0].frame if page else found.frame


def _readable(actor: Actor, question: Question, cursor: Mapping[int, int], *, whole_room: bool = True) -> list[_Log]:
    """Return the logs that a history reads: one log, those of a room, or all readable logs with messages.

    ``room:*`` means the logs of the room if ``whole_room``. ``cursor`` has the logs in which the page before left
    messages.
    """
    address = question.address
    if address is not None and address.is_inbox:
        return _inbox(actor, address, question.inbox_floor)
    channels = Channel.objects.select_related("room").defer("metadata")
    if address is None:
        kinds = (Channel.Kind.CHANNEL, Channel.Kind.ROOM)
        return _several(actor, channels.filter(kind__in=kinds), question, cursor)
    channels = channels.filter(room__name=address.room)
    if address.channel == WHOLE and whole_room:
        found = _several(actor, channels, question, cursor)
        if found:
            return found
    else:
        channels = channels.filter(name=address.channel)
    # A hidden channel costs the same queries as a missing one, so that the time of an answer reveals nothing.
    allowed = _allowed(actor, channels.filter(channels_for(actor, (HISTORY,)))[:STEP])
    known = any(channel_service.may_see(actor, channel) for channel in channels.filter(channels_for(actor))[:STEP])
    room = Room.objects.filter(name=address.room).first()
    if allowed:
        return allowed
    if known or (room is not None and not room.private and channels.exists()):
        require(actor, HISTORY, address, private=room is not None and room.private)
    open_room = address.channel != WHOLE and room is not None and not room.private
    raise BusError(
        ErrorCode.CHANNEL_NOT_FOUND if open_room else ErrorCode.ROOM_NOT_FOUND,
        f"There is no {address}.",
        [{"address": str(address)}],
    )


def _several(actor: Actor, channels: QuerySet[Channel], question: Question, cursor: Mapping[int, int]) -> list[_Log]:
    """Return the readable logs among ``channels`` that may have matching messages, without reading them.

    Raises ``BusError`` VALIDATION_ERROR for more channels than one question may check.
    """
    channels = channels.filter(channels_for(actor, (HISTORY,)), head__gt=0)
    if cursor and question.descending:
        # The other logs have no older messages left. (Forward, they may have new messages.)
        channels = channels.filter(pk__in=list(cursor)[:MOST_LOGS])
    if isinstance(question.after, datetime):
        channels = channels.filter(touched_at__gte=question.after)
    if isinstance(question.before, datetime):
        channels = channels.filter(created_at__lt=question.before)
    there = list(channels.order_by("pk")[: MOST_CANDIDATES + 1])
    if len(there) > MOST_CANDIDATES:
        raise _too_many_logs()
    return _allowed(actor, there)


def _too_many_logs() -> BusError:
    return BusError(
        ErrorCode.VALIDATION_ERROR,
        f"This would search more than {MOST_LOGS} channels. Narrow it to a room, a channel or a shorter period.",
        [{"field": "room"}],
    )


def _allowed(actor: Actor, channels: Iterable[Channel]) -> list[_Log]:
    return [
        _Log.of(channel) for channel in channels if can(actor, HISTORY, channel.address, private=channel.room.private)
    ]


def _inbox(actor: Actor, address: Address, connected_floor: int | None) -> list[_Log]:
    """Return the log of an inbox. Its owner reads all of it, and a sender reads its own messages; admins read nothing.

    For everybody else the list is empty, whether the inbox exists or not. Raises ``BusError`` INVALID_NAME or FORBIDDEN.
    """
    if not is_client_id(address.channel):
        raise invalid_name("channel", address.channel)
    if not can(msgspec.structs.replace(actor, client_id=address.channel), HISTORY, address, private=True):
        # With such a token not even the owner of the inbox could read it.
        raise BusError(ErrorCode.FORBIDDEN, f"You may not read the history of {address}.", [{"action": HISTORY}])
    channel = Channel.objects.filter(room__name=INBOX_ROOM, name=address.channel).first()
    if channel is None:
        return []
    floor: int | None
    if actor.system:
        floor = 0
    elif connected_floor is not None and actor.client_id == address.channel:
        floor = connected_floor
    else:
        floor = client_service.inbox_floor(actor, address.channel)
    if floor is not None:
        return [_Log.of(channel, floor=floor)]
    senders = client_service.own_ids(actor)
    if actor.client_id and actor.client_id not in senders:
        # An earlier owner of this id may have sent messages. The present owner may not read those.
        senders[actor.client_id] = client_service.proven_since(actor.client_id)
    return [_Log.of(channel, senders=senders)] if senders else []


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
        # Times on the wire have milliseconds. A message that shows exactly this time does not come after it.
        moment = question.after + timedelta(milliseconds=1)
        if log.moved < question.after:
            low = log.head
        elif log.started < moment:
            low = max(low, seq_before(log.id, moment))
    if isinstance(question.before, int):
        high = min(high, question.before)
    elif question.before is not None:
        if log.started >= question.before:
            high = 0
        elif log.moved >= question.before:
            high = min(high, seq_before(log.id, question.before) + 1)
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
            ErrorCode.VALIDATION_ERROR,
            "This cursor is not valid.",
            [{"field": "cursor", "message": "Use the `next` of the previous page."}],
        ) from None
    return positions


def address_of(room: str | None, channel: str | None) -> Address | None:
    """Return the address that a question's ``room`` and ``channel`` name; None without both.

    Raises ``BusError`` INVALID_NAME or VALIDATION_ERROR.
    """
    if not room and not channel:
        return None
    if channel and not room and ":" not in channel:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "The room is missing. Give `room` too, or the channel as room:channel.",
            [{"field": "room", "message": "`room` is missing."}],
        )
    return resolve(room, channel, EVERYONE)


def describe(found: Found) -> Any:
    """Return a message as a JSON value with exactly the bytes that were delivered."""
    return msgspec.Raw(found.frame)
