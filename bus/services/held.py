"""Channels whose rows another transaction has locked: the bus does not wait to refer to them."""

from __future__ import annotations

from django.db import connection

from ..log import Position
from ..models import Channel
from . import connections_sql


class ChannelHeld(Exception):
    """Another transaction holds the channel's row ``FOR UPDATE``. The operation was not done and did not wait."""


def refer_to(channel_ids: set[int]) -> tuple[dict[int, Position], set[int]]:
    """Return the positions of the channels that a new row may refer to, and the channels whose rows are locked.

    On PostgreSQL a reference needs the lock ``KEY SHARE``, which conflicts with ``FOR UPDATE``. An insert would wait for
    it. The same thread writes the process's messages, so every publisher would wait too.
    """
    if not channel_ids:
        return {}, set()
    free = connections_sql.statements().free(channel_ids)
    missing = channel_ids - free.keys()
    if not missing or connection.vendor != "postgresql":
        return free, set()
    return free, set(Channel.objects.filter(id__in=missing).values_list("id", flat=True))
