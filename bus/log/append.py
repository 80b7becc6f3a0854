"""Append messages to their logs, in the caller's thread and transaction.

``_append`` takes every batch. A usual batch of SQLite takes the short way of ``plain``, which does the same for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, connections, transaction
from django.utils import timezone

from ..models import Channel, Message, PublishKey, wire_time
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from . import hops, plain
from .batches import Batches
from .effects import Part
from .entry import Entry, id_taken
from .job_batch import with_jobs
from .keys import SWALLOWED
from .sql import for_vendor
from .streamed_row import has_part


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
    wrapper: Any = connections[DEFAULT_DB_ALIAS]
    outermost = not wrapper.in_atomic_block
    if outermost and plain.takes(wrapper, entries) and plain.append(wrapper, entries, before_commit):
        return []
    attempt = 0
    while True:
        attempt += 1
        committing = False
        try:
            with transaction.atomic():
                passed = _append(entries, window, patience, pass_over)
                hops.keep(entries)
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
        cursor, own = wrapper.cursor, sql.cursor(connection)
        effects = [entry for entry in entries if entry.effect is not None]
        wanted = _logs(entries) if effects else sorted({entry.channel_id for entry in entries})
        positions = sql.lock_heads(own, wanted, patience=patience, pass_over=pass_over) if wanted else {}
        locked = _existing(own, set(wanted) - positions.keys()) if pass_over else set()
        effects = with_jobs(entries, effects, positions)
        batches = None
        if effects:
            batches = Batches(cursor, effects, patience=patience, pass_over=pass_over)
            locked |= batches.locked
        used: dict[str, tuple[int, int] | Entry] = {}
        keys = [entry.key for entry in entries if entry.key is not None]
        if keys:
            since = connection.ops.adapt_datetimefield_value(now - timedelta(seconds=window))
            used.update(_still_good(sql.find_keys(own, keys, since), positions))
        heads: dict[int, int] = {}
        values: list[Any] = []
        key_rows: list[tuple[Any, ...]] = []
        passed: list[Entry] = []
        for entry in entries:
            entry.seq, entry.epoch, entry.frame, entry.error, entry.duplicate = None, "", b"", None, False
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
            values += (channel_id, seq, entry.uid, entry.type, entry.sender, moment, entry.frame.decode())
            if entry.key is not None:
                used[entry.key] = entry
                key_rows.append((entry.key, channel_id, seq, moment))
        if values:
            sql.move_heads(own, list(heads.items()), moment)
            sql.insert_messages(own, values)
        if key_rows:
            # All processes insert keys in the same order, so that two with the same keys never deadlock.
            key_rows.sort()
            sql.insert_keys(own, list(chain.from_iterable(key_rows)))
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
        sql = for_vendor(connection.vendor)
        with connection.wrap_database_errors:
            sql.lock_heads(sql.cursor(connection), [probe.channel_id], patience=patience)
        return Message.objects.filter(channel_id=probe.channel_id, seq=probe.seq or 0, uid=probe.uid).exists()
