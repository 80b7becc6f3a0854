"""Channels whose row somebody's transaction holds: references to them are not waited for."""

from __future__ import annotations

from django.db import connection

from ..models import Channel


class ChannelHeld(Exception):
    """The answer where somebody's transaction holds the channel's row ``FOR UPDATE``: nothing was done, and nothing waited."""


def refer_to(channel_ids: set[int]) -> tuple[set[int], set[int]]:
    """Those of the channels that memberships can refer to, and those of which somebody holds the row.

    On PostgreSQL a reference needs a lock (``KEY SHARE``) that a row held ``FOR UPDATE`` does not give. The insert would wait
    for it, and with it every publisher of the process, whose messages are written by the same thread.
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
