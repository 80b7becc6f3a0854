"""The log in the caller's thread and transaction: append, read and prune messages."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction
from django.db.models import Min, OuterRef, Subquery
from django.utils import timezone

from ..models import Channel, Message, PublishKey, new_epoch, wire_time
from ..protocol import frames
from ..protocol.amending import is_erased
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..realtime.frame import LoggedFrame
from .batches import Batches
from .effects import Part
from .entry import Entry, id_taken
from .hops import keep as keep_hops
from .job_batch import with_jobs
from .keys import SWALLOWED
from .sql import for_vendor
from .streamed_row import has_part

#: Messages to read before their average size is known.
SAMPLE = 50


class CommitInDoubt(Exception):
    """The connection was lost during the commit. The transaction may have been committed or not."""


class Contended(Exception):
    """Other transactions held a lock for longer than the batch's patience. Nothing was written."""


#: SQLSTATE of a lock that was not available in time.
_LOCKED = "55P03"
#: SQLSTATEs of transactions that PostgreSQL rolled back in favour of another one. A second try may succeed.
_UNDONE = frozenset({"40001", "40P01"})


def append_batch(
    entries: Sequence[Entry],
    *,
    window: float,
    before_commit: Callable[[], None] | None = None,
    patience: float | None = None,
    pass_over: bool = False,
) -> list[Entry]:
    """Append the entries in one transaction. Set ``seq``, ``epoch``, ``frame``, ``duplicate`` or ``error`` of each.

    ``window`` is how many seconds a repeated ``key`` is recognised. ``before_commit`` is called after the last statement
    and before the commit; an exception from it rolls the batch back. Inside a caller's transaction, the batch becomes a
    part of that.

    On PostgreSQL, ``patience`` is how many seconds to wait for a lock. None waits for as long as the lock lasts, which a
    caller's transaction needs. With ``pass_over``, channels whose rows are locked are left out, and their entries are
    returned.

    Raises the database's error if nothing was written, :class:`Contended` if a lock was the cause, and
    :class:`CommitInDoubt` if the outcome is unknown.
    """
    outermost = not connection.in_atomic_block
    attempt = 0
    while True:
        attempt += 1
        committing = False
        try:
            with transaction.atomic():
                passed = _append(entries, window, patience, pass_over)
                keep_hops(entries)
                if before_commit is not None:
                    before_commit()
                committing = outermost
            return passed
        except Exception as problem:
            state = getattr(problem.__cause__, "sqlstate", None)
            if state == _LOCKED and patience is not None:
                raise Contended from problem
            if isinstance(problem, IntegrityError):
                # Another process used one of the keys, or removed a channel, after the batch read them and before it
                # inserted.
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
        # Django's wrapper is left out: with DEBUG it would format and keep every statement.
        cursor = wrapper.cursor
        effects = [entry for entry in entries if entry.effect is not None]
        wanted = _logs(entries) if effects else sorted({entry.channel_id for entry in entries})
        positions = sql.lock_heads(cursor, wanted, patience=patience, pass_over=pass_over) if wanted else {}
        locked = _existing(cursor, set(wanted) - positions.keys()) if pass_over else set()
        effects = with_jobs(entries, effects, positions)
        batches = None
        if effects:
            batches = Batches(cursor, effects, patience=patience, pass_over=pass_over)
            locked |= batches.locked
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
                if seq == SWALLOWED:
                    entry.swallowed = True
                    continue
                entry.seq = seq
                if batches is not None and entry.effect is not None:
                    batches.repeated(entry)
                continue
            channel_id = entry.channel_id
            if channel_id in locked:
                passed.append(entry)
                continue
            if batches is not None and entry.effect is not None and not batches.admits(entry):
                continue
            position = positions.get(channel_id)
            if position is None:
                entry.error = BusError(ErrorCode.CHANNEL_NOT_FOUND, "The channel was deleted.")
                continue
            seq = heads.get(channel_id, position[0]) + 1
            heads[channel_id] = seq
            entry.seq = seq
            entry.epoch = position[1]
            tail = entry.tail if batches is None or entry.effect is None else batches.keep(entry, seq)
            entry.frame = frames.finish_message(entry.head, tail, stamp, seq)
            rows.append((channel_id, seq, entry.uid, entry.type, entry.sender, moment, entry.frame.decode()))
            if entry.key is not None:
                used[entry.key] = entry
                key_rows.append((entry.key, channel_id, seq, moment))
        if rows:
            sql.move_heads(cursor, list(heads.items()), moment)
            sql.insert_messages(cursor, rows)
        if key_rows:
            # All processes insert keys in the same order, so that two with the same keys never deadlock.
            key_rows.sort()
            sql.insert_keys(cursor, key_rows)
        if batches is not None:
            batches.write(moment)
    return passed


def _logs(entries: Sequence[Entry]) -> list[int]:
    """Return the channels into whose logs the entries go. A part without an end changes only its stream's row."""
    return sorted({entry.channel_id for entry in entries if entry.effect is None or entry.effect.message})


def _still_good(known: dict[str, tuple[int, int]], positions: Container[int]) -> dict[str, tuple[int, int]]:
    """Return the known keys whose channels still exist, and delete the others. ``positions`` has some channels that exist."""
    elsewhere = {channel_id for channel_id, _ in known.values() if channel_id not in positions}
    if elsewhere:
        elsewhere.difference_update(Channel.objects.filter(id__in=elsewhere).values_list("id", flat=True))
    gone = [key for key, (channel_id, _) in known.items() if channel_id in elsewhere]
    if gone:
        PublishKey.objects.filter(key__in=gone).delete()
    return {key: place for key, place in known.items() if place[0] not in elsewhere}


def _existing(cursor: Any, channel_ids: Iterable[int]) -> set[int]:
    """Return which of the rows that were not locked exist (PostgreSQL)."""
    missing = list(channel_ids)
    if not missing:
        return set()
    cursor.execute("SELECT id FROM bus_channel WHERE id = ANY(%s)", (missing,))
    return {row[0] for row in cursor.fetchall()}


def verify(entries: Sequence[Entry], patience: float | None = None) -> bool:
    """Return whether the log has a batch whose commit was in doubt. It has the whole batch or nothing of it.

    The check locks the channel's row, or the stream's for a batch of parts. If the lost connection's transaction still
    runs in the database, the check waits for its end. Without the lock it could report a commit as missing that is still
    to come. After ``patience`` seconds of waiting it raises the database's error.
    """
    new = [entry for entry in entries if entry.error is None and not entry.duplicate]
    if not new:
        return True
    # Entries that were passed over have no seq, and parts of streams have none either.
    probe = next((entry for entry in new if entry.seq is not None), new[0])
    part = next((entry.effect for entry in new if isinstance(entry.effect, Part) and entry.effect.applied), None)
    with transaction.atomic():
        if probe.seq is None and part is not None:
            return has_part(part, patience)
        with connection.cursor() as wrapper, connection.wrap_database_errors:
            for_vendor(connection.vendor).lock_heads(wrapper.cursor, [probe.channel_id], patience=patience)
        return Message.objects.filter(channel_id=probe.channel_id, seq=probe.seq or 0, uid=probe.uid).exists()


class Position(NamedTuple):
    """The id of a log, the seq of its newest message, and its epoch."""

    id: int
    head: int
    epoch: str


def heads(channel_ids: Iterable[int]) -> dict[int, Position]:
    """Return the positions of those channels that exist, by their ids."""
    rows = Channel.objects.filter(id__in=list(channel_ids)).values_list("id", "head", "epoch")
    return {row[0]: Position(*row) for row in rows}


def went_back(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    """Return whether the log lacks a message that was seen in ``epoch``, and give it a new epoch in that case.

    ``seq`` is the message's number, and ``frame`` its bytes if they are still in memory. A log lacks messages after a
    restore, or after a failover to a database without the last commits. It then assigns their numbers a second time. With
    the new epoch, clients do not mistake new messages for messages that they know.
    """
    if not _lacks(channel_id, epoch, seq, frame):
        return False
    with transaction.atomic():
        Channel.objects.select_for_update(no_key=True).filter(id=channel_id).first()
        if not _lacks(channel_id, epoch, seq, frame):
            return False
        # The time changes too, so that the next check of the other processes finds the log.
        Channel.objects.filter(id=channel_id).update(epoch=new_epoch(), touched_at=timezone.now())
    return True


def _lacks(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    head = Channel.objects.filter(id=channel_id, epoch=epoch).values_list("head", flat=True).first()
    if head is None or head < seq:
        return head is not None
    kept = Message.objects.filter(channel_id=channel_id, seq=seq).values_list("frame", flat=True).first()
    # A pruned message proves nothing, and an erased one neither. A frame that was read from the log may have been repaired.
    if frame is None or kept is None or is_erased(kept.encode()):
        return False
    return legible(kept.encode(), seq) != legible(frame, seq)


def read_after(channel_id: int, after: int, limit: int, most_bytes: int | None = None) -> list[LoggedFrame]:
    """Return the first ``limit`` messages with ``seq > after``, oldest first, readable by every JSON parser.

    With ``most_bytes``, large messages make the list shorter. It then has at least one message and little more than that
    many bytes.
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
        # As many as should fit, by the average size so far.
        step = min(limit - len(found), (most_bytes - size) * len(found) // max(size, 1))
        if step <= 0:
            break
    return found


def first_seq(channel_id: int) -> int | None:
    """Return the oldest remaining seq; None for an empty log."""
    value: int | None = Message.objects.filter(channel_id=channel_id).aggregate(first=Min("seq"))["first"]
    return value


def first_seqs(channel_ids: Sequence[int]) -> dict[int, int | None]:
    """Return the oldest remaining seq of each log, None for an empty one. One query, with an index look-up for each log."""
    oldest = Message.objects.filter(channel_id=OuterRef("pk")).order_by("seq").values("seq")[:1]
    return dict(Channel.objects.filter(id__in=channel_ids).values_list("id", Subquery(oldest)))


def seq_before(channel_id: int, moment: datetime) -> int:
    """Return the last remaining ``seq`` that was written before ``moment``.

    Without such a message, return the number before the oldest remaining one, and 0 for an empty log. The search takes a
    few index lookups however long the log is, and fewer for a recent moment.
    """
    rows = Message.objects.filter(channel_id=channel_id)
    newest = rows.order_by("-seq").values_list("seq", "created_at").first()
    if newest is None:
        return 0
    if newest[1] < moment:
        return newest[0]
    low, high, reach = (first_seq(channel_id) or newest[0]) - 1, newest[0] - 1, 8
    # Invariant: messages up to `low` were written before the moment or are gone, and messages above `high` were not.
    while low < high:
        middle = max((low + high + 1) // 2, high - reach)
        reach *= 8
        row = rows.filter(seq__lte=middle, seq__gt=low).order_by("-seq").values_list("seq", "created_at").first()
        if row is None or row[1] < moment:
            low = middle
        else:
            high = row[0] - 1
    return low


def parse_moment(text: str) -> datetime | None:
    """Return the time of an ISO text (without a zone: UTC).

    Returns None for another text, and for a year so extreme that the time has no form in another zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1 < moment.year < 9999:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
