"""Appending to, reading from and pruning the log, in the caller's thread and transaction."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Min, Q
from django.utils import timezone

from ..models import Channel, Message, PublishKey, new_epoch, wire_time
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..realtime.frame import LoggedFrame
from .entry import Entry, id_taken
from .sql import for_vendor

#: Messages that are looked at before it is known how large they are.
SAMPLE = 50


class CommitInDoubt(Exception):
    """The connection was lost while the transaction committed: it may be there or not."""


class Contended(Exception):
    """Others hold a lock that the batch needs for longer than its patience: nothing was written."""


#: SQLSTATE of a lock that was not to be had in time.
_LOCKED = "55P03"
#: SQLSTATEs of transactions that PostgreSQL undid on behalf of another one; the same again may well succeed.
_UNDONE = frozenset({"40001", "40P01"})


def append_batch(
    entries: Sequence[Entry],
    *,
    window: float,
    before_commit: Callable[[], None] | None = None,
    patience: float | None = None,
    pass_over: bool = False,
) -> list[Entry]:
    """Append the entries in one transaction and set their ``seq``, ``epoch``, ``frame``, ``duplicate`` or ``error``.

    ``window`` is how long (seconds) a repeated ``key`` is recognised. Inside a caller's transaction it becomes part of it.
    ``before_commit`` is called when all is written but nothing is final; what it raises undoes the batch.
    On PostgreSQL, locks are waited for with ``patience`` (seconds; None: for as long as they last, as it must be in a caller's
    transaction), and with ``pass_over`` the channels whose rows others have locked are left out: their entries come back.
    Raises the database's error when nothing was written, :class:`Contended` when that was for a lock, and
    :class:`CommitInDoubt` when it is not known.
    """
    outermost = not connection.in_atomic_block
    attempt = 0
    while True:
        attempt += 1
        committing = False
        try:
            with transaction.atomic():
                passed = _append(entries, window, patience, pass_over)
                if before_commit is not None:
                    before_commit()
                committing = outermost
            return passed
        except Exception as problem:
            state = getattr(problem.__cause__, "sqlstate", None)
            if state == _LOCKED and patience is not None:
                raise Contended from problem
            if isinstance(problem, IntegrityError):
                # Another process used one of the keys, or a deleted channel's row went, between our look and our insert.
                again = True
            elif committing and connection.vendor == "postgresql":
                raise CommitInDoubt from problem
            else:
                again = outermost and state in _UNDONE
            if not again or attempt == 3:
                raise


def _append(entries: Sequence[Entry], window: float, patience: float | None, pass_over: bool) -> list[Entry]:
    sql = for_vendor(connection.vendor)
    now = timezone.now()
    stamp = (wire_time(now) or "").encode()
    moment = connection.ops.adapt_datetimefield_value(now)
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        # Below Django's wrapper: with DEBUG it would format and keep every statement.
        cursor = wrapper.cursor
        wanted = sorted({entry.channel_id for entry in entries})
        positions = sql.lock_heads(cursor, wanted, patience=patience, pass_over=pass_over)
        locked = _existing(cursor, set(wanted) - positions.keys()) if pass_over else set()
        used: dict[str, tuple[int, int] | Entry] = {}
        keys = [entry.key for entry in entries if entry.key is not None]
        if keys:
            since = connection.ops.adapt_datetimefield_value(now - timedelta(seconds=window))
            used.update(_still_good(sql.find_keys(cursor, keys, since), positions))
        heads: dict[int, int] = {}
        rows: list[tuple[Any, ...]] = []
        key_rows: list[tuple[Any, ...]] = []
        passed: list[Entry] = []
        for entry in entries:
            entry.seq, entry.error, entry.duplicate = None, None, False
            known = used.get(entry.key) if entry.key is not None else None
            if known is not None:
                channel_id, seq = (known.channel_id, known.seq) if isinstance(known, Entry) else known
                if channel_id != entry.channel_id:
                    entry.error = id_taken()
                    continue
                entry.duplicate = True
                entry.seq = seq
                continue
            channel_id = entry.channel_id
            if channel_id in locked:
                passed.append(entry)
                continue
            position = positions.get(channel_id)
            if position is None:
                entry.error = BusError(ErrorCode.CHANNEL_NOT_FOUND, "The channel was deleted.")
                continue
            seq = heads.get(channel_id, position[0]) + 1
            heads[channel_id] = seq
            entry.seq = seq
            entry.epoch = position[1]
            entry.frame = frames.finish_message(entry.head, entry.tail, stamp, seq)
            rows.append((channel_id, seq, entry.uid, entry.type, entry.sender, moment, entry.frame.decode()))
            if entry.key is not None:
                used[entry.key] = entry
                key_rows.append((entry.key, channel_id, seq, moment))
        if rows:
            sql.move_heads(cursor, list(heads.items()), moment)
            sql.insert_messages(cursor, rows)
        if key_rows:
            # In one order everywhere, so that two processes with the same keys never wait for each other in a circle.
            key_rows.sort()
            sql.insert_keys(cursor, key_rows)
    return passed


def _still_good(known: dict[str, tuple[int, int]], positions: Container[int]) -> dict[str, tuple[int, int]]:
    """The known keys whose channel is still there (``positions``: some that are); the others are removed."""
    elsewhere = {channel_id for channel_id, _ in known.values() if channel_id not in positions}
    if elsewhere:
        elsewhere.difference_update(Channel.objects.filter(id__in=elsewhere).values_list("id", flat=True))
    gone = [key for key, (channel_id, _) in known.items() if channel_id in elsewhere]
    if gone:
        PublishKey.objects.filter(key__in=gone).delete()
    return {key: place for key, place in known.items() if place[0] not in elsewhere}


def _existing(cursor: Any, channel_ids: Iterable[int]) -> set[int]:
    """Which of the rows that were not to be locked are there (PostgreSQL)."""
    missing = list(channel_ids)
    if not missing:
        return set()
    cursor.execute("SELECT id FROM bus_channel WHERE id = ANY(%s)", (missing,))
    return {row[0] for row in cursor.fetchall()}


def verify(entries: Sequence[Entry], patience: float | None = None) -> bool:
    """Whether a batch whose commit was in doubt is in the log. It is there as a whole or not at all.

    The channel's row is locked for the question: should the lost connection's transaction still be under way in the
    database, this waits for its end instead of taking a "not yet" for a "no": ``patience`` seconds, then it raises the
    database's error.
    """
    new = [entry for entry in entries if entry.error is None and not entry.duplicate]
    if not new:
        return True
    # What was passed over has no seq.
    probe = next((entry for entry in new if entry.seq is not None), new[0])
    with transaction.atomic():
        with connection.cursor() as wrapper, connection.wrap_database_errors:
            for_vendor(connection.vendor).lock_heads(wrapper.cursor, [probe.channel_id], patience=patience)
        return Message.objects.filter(channel_id=probe.channel_id, seq=probe.seq or 0, uid=probe.uid).exists()


class Position(NamedTuple):
    """The position of a log."""

    id: int
    head: int
    epoch: str


def heads(channel_ids: Iterable[int]) -> dict[int, Position]:
    """Return the positions of those channels that exist, by their ids."""
    rows = Channel.objects.filter(id__in=list(channel_ids)).values_list("id", "head", "epoch")
    return {row[0]: Position(*row) for row in rows}


def went_back(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    """Whether the log of that epoch lacks a message that was seen in it: ``seq``, and its ``frame`` where that is remembered.

    So it is when the database was set back, or another one took over that lacked the last commits. The log then gets a new
    epoch, so that nobody takes the numbers that it gives out a second time for those that they know.
    """
    if not _lacks(channel_id, epoch, seq, frame):
        return False
    with transaction.atomic():
        Channel.objects.select_for_update(no_key=True).filter(id=channel_id).first()
        if not _lacks(channel_id, epoch, seq, frame):
            return False
        # Also touched, so that the other processes' next look finds it.
        Channel.objects.filter(id=channel_id).update(epoch=new_epoch(), touched_at=timezone.now())
    return True


def _lacks(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    head = Channel.objects.filter(id=channel_id, epoch=epoch).values_list("head", flat=True).first()
    if head is None or head < seq:
        return head is not None
    kept = Message.objects.filter(channel_id=channel_id, seq=seq).values_list("frame", flat=True).first()
    # What the retention dropped proves nothing. A frame that was read from the log may have been mended on the way.
    return frame is not None and kept is not None and legible(kept.encode(), seq) != legible(frame, seq)


def moved_since(moment: datetime) -> list[Position]:
    """Return the positions of the logs that were appended to since ``moment``."""
    rows = Channel.objects.filter(touched_at__gte=moment).values_list("id", "head", "epoch")
    return [Position(*row) for row in rows]


def read_after(channel_id: int, after: int, limit: int, most_bytes: int | None = None) -> list[LoggedFrame]:
    """The first ``limit`` messages with ``seq > after``, oldest first, legible to every reader.

    With ``most_bytes`` they are fewer where messages are large: at least one, and little more than so many bytes.
    """
    rows = Message.objects.filter(channel_id=channel_id).order_by("seq").values_list("seq", "frame")
    found: list[LoggedFrame] = []
    step = limit if most_bytes is None else min(limit, SAMPLE)
    while len(found) < limit:
        behind = found[-1][0] if found else after
        part = [LoggedFrame(seq, legible(frame.encode(), seq)) for seq, frame in rows.filter(seq__gt=behind)[:step]]
        found += part
        if most_bytes is None or len(part) < step:
            break
        size = sum(len(frame) for _, frame in found)
        # As many as should fit, by what those until here were like.
        step = min(limit - len(found), (most_bytes - size) * len(found) // max(size, 1))
        if step <= 0:
            break
    return found


def first_seq(channel_id: int) -> int | None:
    """The oldest seq that is left; None for an empty log."""
    value: int | None = Message.objects.filter(channel_id=channel_id).aggregate(first=Min("seq"))["first"]
    return value


def seq_before(channel_id: int, moment: datetime) -> int:
    """The last ``seq`` that is left and was written before ``moment``; where none was, the one before the oldest that is left.

    0 for an empty log. A few looks into the index however long the log is, and fewer for a moment not long ago.
    """
    rows = Message.objects.filter(channel_id=channel_id)
    newest = rows.order_by("-seq").values_list("seq", "created_at").first()
    if newest is None:
        return 0
    if newest[1] < moment:
        return newest[0]
    low, high, reach = (first_seq(channel_id) or newest[0]) - 1, newest[0] - 1, 8
    # Invariant: what is at or below `low` was written before (or is gone), what is above `high` was not.
    while low < high:
        middle = max((low + high + 1) // 2, high - reach)
        reach *= 8
        row = rows.filter(seq__lte=middle, seq__gt=low).order_by("-seq").values_list("seq", "created_at").first()
        if row is None or row[1] < moment:
            low = middle
        else:
            high = row[0] - 1
    return low


def prunable(*, default_count: int, default_age: float) -> list[tuple[int, int]]:
    """``(channel_id, seq)`` of the channels that keep more than their retention allows, each up to that ``seq``."""
    now = timezone.now()
    found: list[tuple[int, int]] = []
    by_count = Q(retention_count__gt=0, head__gt=F("retention_count"))
    if default_count:
        by_count |= Q(retention_count__isnull=True, head__gt=default_count)
    by_age = Q(retention_age__gt=0) | (Q(retention_age__isnull=True) if default_age else Q(pk__in=()))
    channels = Channel.objects.filter(by_count | by_age, head__gt=0).order_by()
    for channel in channels.only("id", "head", "retention_count", "retention_age"):
        rows = Message.objects.filter(channel_id=channel.id).order_by("seq")
        oldest = rows.values_list("seq", "created_at").first()
        if oldest is None:
            continue
        count = default_count if channel.retention_count is None else channel.retention_count
        age = default_age if channel.retention_age is None else channel.retention_age
        floor = channel.head - count if count else 0
        since = now - timedelta(seconds=age)
        if age and oldest[1] < since:
            floor = max(floor, seq_before(channel.id, since))
        if oldest[0] <= floor:
            found.append((channel.id, floor))
    return found


def beyond(floors: Sequence[tuple[int, int]]) -> int:
    """How many messages lie at or below the seq of each ``(channel_id, seq)``."""
    return sum(Message.objects.filter(channel_id=channel_id, seq__lte=floor).count() for channel_id, floor in floors)


def drop(channel_id: int, floor: int, limit: int) -> int:
    """Remove the oldest messages of a log, up to the seq ``floor`` and at most ``limit`` of them; how many went."""
    oldest = first_seq(channel_id)
    if oldest is None or oldest > floor:
        return 0
    return Message.objects.filter(channel_id=channel_id, seq__lte=min(floor, oldest + limit - 1)).delete()[0]


def forget_keys(window: float, limit: int) -> int:
    """Forget senders' own ids that are older than ``window`` seconds, at most ``limit`` of them; how many went."""
    old = PublishKey.objects.filter(created_at__lt=timezone.now() - timedelta(seconds=window))
    return PublishKey.objects.filter(key__in=list(old.values_list("key", flat=True)[:limit])).delete()[0]


def prune(*, default_count: int, default_age: float, window: float, limit: int = 5000) -> int:
    """Drop what the retention of each channel lets go, oldest first, at most ``limit`` rows of each; returns how many went."""
    floors = prunable(default_count=default_count, default_age=default_age)
    dropped = sum(drop(channel_id, floor, limit) for channel_id, floor in floors)
    while forget_keys(window, limit) == limit:
        pass
    return dropped


def parse_moment(text: str) -> datetime | None:
    """An ISO time (without a zone: UTC); None when it is not one, or so far off that no other zone could tell it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1 < moment.year < 9999:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
