"""Channels whose rows another transaction has locked: the bus does not wait to refer to them."""

from __future__ import annotations

from django.db import connection

from ..models import Channel


class ChannelHeld(Exception):
    """Another transaction holds the channel's row ``FOR UPDATE``. The operation was not done and did not wait."""


def refer_to(channel_ids: set[int]) -> tuple[set[int], set[int]]:
    """Return the channels that memberships can refer to, and those whose rows another transaction has locked.

    On PostgreSQL a reference needs the lock ``KEY SHARE``, which conflicts with ``FOR UPDATE``. An insert would wait for
    it. The same thread writes the process's messages, so every publisher would wait too.
    """
    if not channel_ids:
        return set(), set()
    there = Channel.objects.filter(id__in=channel_ids)
    if connection.vendor != "postgresql":
        return set(there.values_list("id", flat=True)), set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM bus_channel WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE SKIP LOCKED", [list(channel_ids)]
        )
        free = {row[0] for row in cursor.fetchall()}
    missing = channel_ids - free
    return free, set(there.filter(id__in=missing).values_list("id", flat=True)) if missing else set()
