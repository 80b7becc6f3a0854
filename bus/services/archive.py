"""History as a file with one message a line: export from the logs, import into empty logs (docs/operations.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from django.db import transaction
from django.db.models import Count, QuerySet
from django.utils import timezone
from msgspec import Meta, field

from ..auth.permissions import SYSTEM, Actor
from ..conf.settings import config
from ..directory.channels import ensure
from ..log.effects import TEXT
from ..log.store import parse_moment
from ..models import Amendment, Channel, Message, Room, Stream
from ..protocol.amending import AMEND, DELETE, EDIT, LONGEST_REACTION, change_of
from ..protocol.errors import BusError, ErrorCode
from ..protocol.growing import STREAM_END
from ..protocol.kept import legible
from ..protocol.limits import nesting_within
from ..protocol.names import EVERYONE, INBOX_ROOM, Address
from ..protocol.routing import resolve
from . import audit

#: Messages that one transaction imports. The limit keeps the wait of publishers behind it short.
CHUNK = 1000
#: The longest line of a file, in bytes: the largest frame of a server and the fields that its envelope adds.
LONGEST_LINE = 2 * 1024 * 1024


class Line(msgspec.Struct, kw_only=True):
    """The fields of a message that an import reads. The import stores the whole line."""

    id: Annotated[str, Meta(min_length=1, max_length=160)]
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    room: str
    channel: str
    timestamp: str
    seq: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    sender: Annotated[str, Meta(max_length=64)] = field(name="from")


class Refused(Exception):
    """The file cannot be imported. The text gives the line and the reason.

    Messages before that line stay imported.
    """


def channels_of(addresses: Sequence[str]) -> QuerySet[Channel]:
    """Return the channels whose logs an export writes.

    Each of ``addresses`` is ``room:channel``, or ``room`` for all channels of a room. Without addresses, these are all
    channels except inboxes. Raises ``BusError`` INVALID_NAME, ROOM_NOT_FOUND or CHANNEL_NOT_FOUND.
    """
    found = Channel.objects.select_related("room").order_by("room__name", "name")
    if not addresses:
        return found.exclude(kind=Channel.Kind.INBOX)
    ids: set[int] = set()
    for text in addresses:
        address = resolve(text, None, EVERYONE)
        rows = found.filter(room__name=address.room)
        if not address.is_whole_room:
            rows = rows.filter(name=address.channel)
        elif not Room.objects.filter(name=address.room).exists():
            raise BusError(ErrorCode.ROOM_NOT_FOUND, f"There is no room {address.room}.")
        chosen = set(rows.values_list("pk", flat=True))
        if not chosen:
            raise BusError(ErrorCode.CHANNEL_NOT_FOUND, f"There is no channel {address}.")
        ids |= chosen
    return found.filter(pk__in=ids)


def count(channels: Iterable[Channel]) -> int:
    """Return how many messages the logs of the channels store."""
    total = Message.objects.filter(channel__in=[channel.pk for channel in channels]).aggregate(n=Count("id"))
    return int(total["n"])


def lines(channel: Channel) -> Iterator[str]:
    """Yield the messages of a log, oldest first, each as one line of JSON without its line break."""
    last = 0
    while True:
        rows = Message.objects.filter(channel=channel, seq__gt=last).order_by("seq")[:CHUNK]
        for message in rows:
            last = message.seq
            yield message.line()
        if len(rows) < CHUNK:
            return


def take_in(actor: Actor, numbered: Iterable[tuple[int, bytes]], *, door: str) -> Iterator[int]:
    """Import the messages of an export with their own ``seq`` and time.

    ``numbered`` yields pairs of a line's number and its bytes. The function yields how many lines each transaction
    processed. A log must be empty, or end where an earlier import of the same file ended. Raises :class:`Refused` for an
    invalid line, and ``BusError`` FORBIDDEN unless ``actor`` is an admin.
    """
    if not actor.manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may import history.")
    waiting: list[tuple[int, Line, str, datetime]] = []
    taken: dict[Address, int] = {}
    for number, data in numbered:
        if not data.strip():
            continue
        try:
            line, text, at = _read(number, data)
        except Refused:
            if waiting:
                yield _append(actor, waiting, taken)
            raise
        if waiting and (_address(waiting[0][1]) != _address(line) or len(waiting) == CHUNK):
            yield _append(actor, waiting, taken)
            waiting = []
        waiting.append((number, line, text, at))
    if waiting:
        yield _append(actor, waiting, taken)
    for address, added in taken.items():
        audit.record(actor, door, "import_history", str(address), messages=added)


def _address(line: Line) -> Address:
    return Address(line.room, line.channel)


def _read(number: int, data: bytes) -> tuple[Line, str, datetime]:
    """Return a line of the file as the parsed message, its text and its time. Raises :class:`Refused`."""
    if len(data) > LONGEST_LINE:
        raise Refused(f"Line {number} has {len(data)} bytes. The limit is {LONGEST_LINE}.")
    try:
        text = data.decode().strip()
        line = msgspec.json.decode(text, type=Line)
        address = resolve(f"{line.room}:{line.channel}", None, EVERYONE)
    except (ValueError, BusError) as problem:
        raise Refused(f"Line {number} is not a message of an export: {problem}.") from None
    at = parse_moment(line.timestamp)
    if at is None or address != _address(line):
        raise Refused(f"Line {number} is not a message of an export: its time, seq or address is invalid.")
    if address.room == INBOX_ROOM:
        raise Refused(f"Line {number} is a private message. Private messages are not imported.")
    if not nesting_within(data, config().frame_depth + 1):
        raise Refused(f"Line {number} nests deeper than {config().frame_depth} levels, which is the limit.")
    # An export of an older version may hold numbers that frames no longer allow.
    return line, legible(text.encode(), line.seq).decode(), at


def _append(actor: Actor, waiting: Sequence[tuple[int, Line, str, datetime]], taken: dict[Address, int]) -> int:
    address = _address(waiting[0][1])
    with transaction.atomic():
        channel_id = ensure(address, SYSTEM)[0].id
        channel = Channel.objects.select_for_update(of=("self",)).get(pk=channel_id)
        if channel.ephemeral:
            raise Refused(f"Line {waiting[0][0]}: {address} is ephemeral and stores no history.")
        rows: list[Message] = []
        known = _kept(channel, [line.seq for _, line, _, _ in waiting if line.seq <= channel.head])
        for number, line, text, at in waiting:
            if line.seq <= channel.head:
                if known.get(line.seq) != line.id:
                    raise Refused(f"Line {number}: {address} already has other messages. The channel must be empty.")
                continue
            rows.append(
                Message(
                    channel=channel,
                    seq=line.seq,
                    uid=line.id,
                    type=line.type,
                    sender=line.sender,
                    created_at=at,
                    frame=text,
                )
            )
            channel.head = line.seq
        if rows:
            Message.objects.bulk_create(rows)
            _restore_streams(channel, rows)
            _restore_amendments(channel, rows)
            channel.auto_created = False
            # The servers look for logs that moved lately. A history before a given time skips channels that were created
            # after it.
            channel.touched_at = timezone.now()
            channel.created_at = min(channel.created_at, rows[0].created_at)
            channel.save(update_fields=["head", "auto_created", "touched_at", "created_at"])
    taken[address] = taken.get(address, 0) + len(rows)
    return len(waiting)


class _Told(msgspec.Struct):
    """What a ``stream_end`` says of its stream."""

    mode: Literal["text", "parts"]
    state: Literal["complete", "aborted", "stopped"]
    parts: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class _End(msgspec.Struct):
    """The keys of a ``stream_end`` that make the row of its stream."""

    of: Annotated[str, Meta(min_length=1, max_length=160)]
    of_seq: int
    stream: _Told
    message: msgspec.Raw = msgspec.Raw(b'""')
    parts: msgspec.Raw = msgspec.Raw(b"[]")


class _Amendment(msgspec.Struct):
    """The key of an amendment that names its message."""

    of_seq: int = 0


def _restore_streams(channel: Channel, rows: Sequence[Message]) -> None:
    """Create the streams whose ends are among imported messages, so that a folded history shows each as one message.

    A stream that was open at the export stays an opening without content. An id that another stream has stays with it.
    """
    ends: list[tuple[Message, _End]] = []
    for row in rows:
        if row.type == STREAM_END:
            # Before there were streams, this was the type of any message.
            with suppress(msgspec.DecodeError):
                ends.append((row, msgspec.json.decode(row.frame, type=_End)))
    openings = _kept(channel, [end.of_seq for _, end in ends])
    Stream.objects.bulk_create(
        [
            Stream(
                uid=end.of,
                channel=channel,
                seq=end.of_seq,
                mode=end.stream.mode,
                state=end.stream.state,
                have=end.stream.parts,
                bytes=len(bytes(end.message if end.stream.mode == TEXT else end.parts)) - 2,
                client_id=row.sender,
                opened_at=row.created_at,
                touched_at=row.created_at,
                ended_at=row.created_at,
                end_seq=row.seq,
            )
            for row, end in ends
            if end.of_seq < row.seq and openings.get(end.of_seq) == end.of
        ],
        ignore_conflicts=True,
    )


def _restore_amendments(channel: Channel, rows: Sequence[Message]) -> None:
    """Note which imported messages amend others, so that a folded history shows them in these. Their principals are unknown."""
    changes = [
        (row, of_seq, change)
        for row in rows
        if row.type == AMEND
        and (change := change_of(row.frame.encode())) is not None
        and 0 < (of_seq := msgspec.json.decode(row.frame, type=_Amendment).of_seq) < row.seq
    ]
    Amendment.objects.bulk_create(
        [
            Amendment(
                channel=channel,
                seq=row.seq,
                of_seq=of_seq,
                do=change.do,
                reaction=change.reaction[:LONGEST_REACTION],
                client_id=row.sender,
            )
            for row, of_seq, change in changes
            # What an erased reaction was is unknown.
            if change.do in (EDIT, DELETE) or change.reaction
        ]
    )


def _kept(channel: Channel, seqs: Sequence[int]) -> dict[int, Any]:
    return dict(Message.objects.filter(channel=channel, seq__in=seqs).values_list("seq", "uid"))
