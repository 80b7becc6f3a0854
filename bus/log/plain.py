"""The usual transaction of SQLite: new messages without effects. It takes half as many steps as the general one.

Nothing is decided here. What is not usual (a repeated id, a channel that is gone, a work channel) leaves the transaction
undone, and ``append`` decides it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import IntegrityError

from ..db import raw
from ..models import wire_time
from ..protocol import frames
from . import hops
from .entry import Entry
from .sql import for_vendor

_sql = for_vendor("sqlite")


class _Unusual(Exception):
    """The general transaction has to decide about the batch."""


def takes(wrapper: Any, entries: Sequence[Entry]) -> bool:
    """Return whether the entries may go in over Django's connection ``wrapper`` without its wrappers."""
    if not entries or not raw.possible(wrapper) or hops.counted():
        return False
    return all(entry.effect is None for entry in entries)


def append(wrapper: Any, entries: Sequence[Entry], before_commit: Callable[[], None] | None) -> bool:
    """Append the entries in one transaction. Return False, with nothing written, if they are not usual.

    ``before_commit`` is that of ``append_batch``, and so are the errors.
    """
    try:
        with raw.writing(wrapper, before_commit) as cursor:
            _write(cursor, wrapper, entries)
    except (_Unusual, IntegrityError):
        return False
    return True


def _write(cursor: Any, wrapper: Any, entries: Sequence[Entry]) -> None:
    positions = _sql.lock_heads(cursor, list({entry.channel_id for entry in entries}))
    now = datetime.now(UTC)
    stamp = (wire_time(now) or "").encode()
    moment = wrapper.ops.adapt_datetimefield_value(now)
    heads = {channel_id: position[0] for channel_id, position in positions.items() if not position[2]}
    finish = frames.finish_message
    messages: list[Any] = []
    keys: list[Any] = []
    for entry in entries:
        channel_id = entry.channel_id
        if channel_id not in heads:
            raise _Unusual
        heads[channel_id] = entry.seq = seq = heads[channel_id] + 1
        entry.epoch = positions[channel_id][1]
        entry.frame = frame = finish(entry.head, entry.tail, stamp, seq)
        entry.error, entry.duplicate = None, False
        messages += (channel_id, seq, entry.uid, entry.type, entry.sender, moment, frame.decode())
        if entry.key is not None:
            keys += (entry.key, channel_id, seq, moment)
    if keys:
        # A key that is there already ends the statement, and the general transaction looks whose it is.
        _sql.insert_keys(cursor, keys)
    _sql.move_heads(cursor, list(heads.items()), moment)
    _sql.insert_messages(cursor, messages)
