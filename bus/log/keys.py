"""Senders' own message ids, apart from the appends that use them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import chain

from django.db import connection
from django.utils import timezone

from ..models import Channel, PublishKey
from .entry import Entry
from .sql import for_vendor

#: The ``seq`` of a key whose message was swallowed by a gate: it is in no log.
SWALLOWED = 0


def used_keys(keys: Collection[str], window: float) -> set[str]:
    """Return which of the keys were used within ``window`` seconds, in channels that still exist."""
    if not keys:
        return set()
    since = timezone.now() - timedelta(seconds=window)
    rows = PublishKey.objects.filter(key__in=keys, created_at__gte=since)
    return set(rows.filter(channel_id__in=Channel.objects.values("id")).values_list("key", flat=True))


def remember_swallowed(entries: Sequence[Entry], window: float) -> bool:
    """Write the keys of messages that a gate swallowed, in the caller's transaction.

    Returns False if another message used one of the keys in the meantime. Then nothing was written.
    """
    wanted = {entry.key: entry.channel_id for entry in entries if entry.key is not None}
    if not wanted:
        return True
    now = timezone.now()
    sql = for_vendor(connection.vendor)
    moment, since = (connection.ops.adapt_datetimefield_value(time) for time in (now, now - timedelta(seconds=window)))
    with connection.wrap_database_errors:
        cursor = sql.cursor(connection)
        if sql.find_keys(cursor, list(wanted), since):
            return False
        rows = [(key, channel_id, SWALLOWED, moment) for key, channel_id in sorted(wanted.items())]
        sql.insert_keys(cursor, list(chain.from_iterable(rows)))
    return True
