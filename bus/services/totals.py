"""The figures over all processes: what is there now, and totals that outlive processes and rows."""

from __future__ import annotations

from django.db.models import Count, F, Sum

from .. import shapes
from ..conf.settings import config
from ..models import Channel, Client, Counter, Membership


def add(counts: dict[str, int]) -> None:
    """Add to the totals that outlive processes and rows."""
    for name, value in counts.items():
        if value and not Counter.objects.filter(name=name).update(value=F("value") + value):
            _, made = Counter.objects.get_or_create(name=name, defaults={"value": value})
            if not made:
                Counter.objects.filter(name=name).update(value=F("value") + value)


def stats() -> shapes.Stats:
    """The figures of all processes, for the command ``status``."""
    counters = dict(Counter.objects.values_list("name", "value"))
    live = Membership.objects.filter(client__node__isnull=False)
    active = live.aggregate(channels=Count("channel", distinct=True), rooms=Count("channel__room", distinct=True))
    # The logs count themselves (a channel's head is the number of its messages ever); what is gone is in the counter. The bus's
    # messages about itself are nobody's.
    kept = Channel.objects.exclude(room__name=config().system_room).aggregate(total=Sum("head"))["total"] or 0
    return shapes.Stats(
        total_connections=counters.get("connections", 0),
        active_connections=Client.objects.filter(node__isnull=False).count(),
        active_rooms=active["rooms"],
        active_channels=active["channels"],
        total_messages=kept + counters.get("messages", 0),
    )
