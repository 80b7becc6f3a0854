"""Figures over all processes: present counts, and totals that outlive processes and rows."""

from __future__ import annotations

from django.db.models import Count, F, Sum

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


def stats() -> shapes.Stats:
    """Return the figures of all processes, for the command ``status``."""
    counters = dict(Counter.objects.values_list("name", "value"))
    live = Membership.objects.filter(client__node__isnull=False)
    active = live.aggregate(channels=Count("channel", distinct=True), rooms=Count("channel__room", distinct=True))
    # A channel's head counts all messages it ever had. The counter has those of removed channels. The total leaves out
    # messages of the bus about itself.
    kept = Channel.objects.exclude(room__name=config().system_room).aggregate(total=Sum("head"))["total"] or 0
    return shapes.Stats(
        total_connections=counters.get("connections", 0),
        active_connections=Client.objects.filter(node__isnull=False).count(),
        active_rooms=active["rooms"],
        active_channels=active["channels"],
        total_messages=kept + counters.get("messages", 0),
    )
