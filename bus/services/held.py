"""Channels whose rows another transaction has locked: the bus does not wait to refer to them."""

from __future__ import annotations

from django.db import connection

from ..log import Position, heads
from ..models import Channel


class ChannelHeld(Exception):
    """Another transaction holds the channel's row ``FOR UPDATE``. The operation was not done and did not wait."""


def refer_to(channel_ids: set[int]) -> tuple[dict[int, Position], set[int]]:
    """Return the positions of the channels that a new row may refer to, and the channels whose rows are locked.

    On PostgreSQL a reference needs the lock ``KEY SHARE``, which conflicts with ``FOR UPDATE``. An insert would wait for
    it. The same thread writes the process's messages, so every publisher would wait too.
    """
    if not channel_ids:
        return {}, set()
    if connection.vendor != "postgresql":
        return heads(channel_ids), set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, head, epoch FROM bus_channel WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE SKIP LOCKED",
            [list(channel_ids)],
        )
        free = {row[0]: Position(*row) for row in cursor.fetchall()}
    missing = channel_ids - free.keys()
    there = Channel.objects.filter(id__in=missing)
    return free, set(there.values_list("id", flat=True)) if missing else set()
