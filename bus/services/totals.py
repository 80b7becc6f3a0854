"""Figures over all processes: present counts, and totals that outlive processes and rows."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.db.models import Count, F, Max, Sum

from .. import shapes
from ..conf.settings import config
from ..models import Channel, Client, Counter, Membership


def add(counts: dict[str, int]) -> None:
    """Add ``counts``, numbers by name, to the totals in the database."""
    for name, value in counts.items():
        if value and not Counter.objects.filter(name=name).update(value=F("value") + value):
            _, made = Counter.objects.get_or_create(name=name, defaults={"value": value})
            if not made:
                Counter.objects.filter(name=name).update(value=F("value") + value)


#: Rows of channels and memberships that may be read for each second that the figures are used. Below :data:`FEW` rows they are
#: always read.
ROWS_A_SECOND, FEW = 10_000, 50_000


class _Reused:
    """Figures that ``read`` returns with the number of rows that it read. On a large bus they are used for some time."""

    def __init__(self, read: Callable[[], tuple[tuple[int, ...], int]]) -> None:
        self._read = read
        self._figures: tuple[int, ...] = ()
        self._until = 0.0

    def __call__(self) -> tuple[int, ...]:
        """Return the figures."""
        if time.monotonic() >= self._until:
            self._figures, rows = self._read()
            self._until = 0.0 if rows < FEW else time.monotonic() + rows / ROWS_A_SECOND
        return self._figures


def _read_active() -> tuple[tuple[int, int], int]:
    """Return the numbers of rooms and channels with members, and of memberships."""
    live = Membership.objects.filter(client__node__isnull=False)
    active = live.aggregate(
        channels=Count("channel", distinct=True), rooms=Count("channel__room", distinct=True), rows=Count("id")
    )
    return (active["rooms"], active["channels"]), active["rows"]


def _read_kept() -> tuple[tuple[int], int]:
    """Return the number of all messages in the present channels, and about how many channels there are.

    A channel's head counts all messages it ever had. Messages of the bus about itself are left out.
    """
    # Each query reads one table only, and in its order.
    every = Channel.objects.aggregate(total=Sum("head"), newest=Max("id"))
    own = Channel.objects.filter(room__name=config().system_room).aggregate(total=Sum("head"))["total"] or 0
    return ((every["total"] or 0) - own,), every["newest"] or 0


_active, _kept = _Reused(_read_active), _Reused(_read_kept)


def stats() -> shapes.Stats:
    """Return the figures of all processes, for the command ``status``.

    Some read every channel, or every membership. On a large bus those may be old: by 100 seconds with a million of either.
    """
    counters = dict(Counter.objects.values_list("name", "value"))
    rooms, channels = _active()
    return shapes.Stats(
        total_connections=counters.get("connections", 0),
        active_connections=Client.objects.filter(node__isnull=False).count(),
        active_rooms=rooms,
        active_channels=channels,
        # The counter has the messages of removed channels.
        total_messages=_kept()[0] + counters.get("messages", 0),
    )
