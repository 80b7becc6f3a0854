"""The positions of handlers: where they begin, which have messages to handle, and how they move."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from ..models import Channel, Handler, HandlerPosition, Message
from ..protocol.names import INBOX_ROOM, WHOLE, Address
from .registry import Registered

#: Channels that transactions insert at the same time may appear out of order. As many ids are looked at again.
OVERLAP = 1000
#: Seconds by which the clocks of processes may differ when a handler is run for the first time.
CLOCKS = 60.0


class Ready(NamedTuple):
    """A position with messages behind it."""

    id: int
    handler_id: int


def begin(registered: Registered, *, since: str | None = None) -> Handler:
    """Return the row of a handler. At its first run the row is made, with a position in each channel that matches.

    ``since`` replaces that of the handler. Raises the database's error.
    """
    found = Handler.objects.filter(name=registered.name).first()
    if found is None:
        try:
            with transaction.atomic():
                found = Handler.objects.create(name=registered.name, pattern=registered.pattern[:130])
                _add(found, registered, _channels(registered), from_start=(since or registered.since) == "start")
        except IntegrityError:
            # Another process was first. Its transaction is over, and its positions are there.
            found = Handler.objects.filter(name=registered.name).first()
            if found is None:
                raise
    if found.pattern != registered.pattern:
        Handler.objects.filter(pk=found.pk).update(pattern=registered.pattern)
    return found


def there(handler_ids: Collection[int]) -> set[int]:
    """Return those handlers that nobody has forgotten."""
    return set(Handler.objects.filter(pk__in=handler_ids).values_list("pk", flat=True))


def seen(handler_ids: Collection[int]) -> None:
    """Note that this process runs the handlers."""
    Handler.objects.filter(pk__in=handler_ids).update(seen_at=timezone.now())


def newest_channel() -> int:
    """Return the largest id of a channel."""
    return Channel.objects.aggregate(newest=Max("id"))["newest"] or 0


def discover(handler: Handler, registered: Registered, after: int = 0) -> int:
    """Make positions in the channels that match and have none yet. Return how many.

    ``after`` is an id of a channel. Channels that are older by more than :data:`OVERLAP` ids are left out. A channel that came
    after the handler's first run is handled from its beginning.
    """
    channels = _channels(registered).filter(id__gt=after - OVERLAP)
    missing = channels.exclude(Exists(HandlerPosition.objects.filter(handler=handler, channel=OuterRef("pk"))))
    old = handler.started_at - timedelta(seconds=CLOCKS)
    made = _add(handler, registered, missing.filter(created_at__gte=old), from_start=True)
    return made + _add(handler, registered, missing.filter(created_at__lt=old), from_start=registered.since == "start")


def _channels(registered: Registered) -> QuerySet[Channel]:
    """Return the channels with a log whose names do not rule out that the pattern matches."""
    room, _, channel = registered.pattern.partition(":")
    rows = Channel.objects.filter(ephemeral=False).order_by("id")
    if room != INBOX_ROOM:
        rows = rows.exclude(kind=Channel.Kind.INBOX)
    for field, part in (("room__name", room), ("name", channel or WHOLE)):
        first, *_, last = part.split(WHOLE) if WHOLE in part else (part, part)
        rows = rows.filter(**{f"{field}__startswith": first, f"{field}__endswith": last})
    return rows


def _add(handler: Handler, registered: Registered, channels: QuerySet[Channel], *, from_start: bool) -> int:
    found = channels.values_list("id", "room__name", "name", "head", "epoch", "created_at")
    covered = [row for row in found.iterator() if registered.covers(Address(row[1], row[2]))]
    oldest: dict[int, int] = {}
    if from_start:
        oldest = _oldest([row[0] for row in covered if row[5] < handler.started_at])
    rows = [
        HandlerPosition(
            handler=handler,
            channel_id=channel_id,
            epoch=epoch,
            # What was removed before the first run is not lost. In a later channel, whatever is missing is.
            seq=(0 if created >= handler.started_at else oldest.get(channel_id, head + 1) - 1) if from_start else head,
        )
        for channel_id, _, _, head, epoch, created in covered
    ]
    HandlerPosition.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
    return len(rows)


def _oldest(channel_ids: list[int]) -> dict[int, int]:
    """Return the oldest seq of each log that has messages."""
    found: dict[int, int] = {}
    for start in range(0, len(channel_ids), 500):
        first = Message.objects.filter(channel_id=OuterRef("pk")).order_by("seq").values("seq")[:1]
        some = Channel.objects.filter(id__in=channel_ids[start : start + 500]).order_by()
        rows = some.annotate(oldest=Subquery(first)).values_list("id", "oldest")
        found.update({channel_id: seq for channel_id, seq in rows if seq is not None})
    return found


def behind() -> QuerySet[HandlerPosition]:
    """Return the positions whose logs have other messages than they have handled."""
    return HandlerPosition.objects.exclude(channel__head=F("seq"))


def ready(handler_ids: Collection[int], limit: int, *, waiting: bool = True) -> Iterable[Ready]:
    """Return positions with messages to handle now, those first that moved the longest time ago.

    With ``waiting`` False, those that wait for their next attempt are ready, too.
    """
    now = timezone.now()
    rows = behind().filter(handler_id__in=handler_ids, state=HandlerPosition.State.RUNNING)
    if waiting:
        rows = rows.filter(Q(retry_at=None) | Q(retry_at__lte=now), Q(lease_until=None) | Q(lease_until__lte=now))
    return [Ready(*row) for row in rows.order_by("moved_at", "id").values_list("id", "handler_id")[:limit]]


def locked(position_id: int) -> HandlerPosition | None:
    """Lock a position for the transaction. None if another process has it or if it is gone.

    On SQLite the transaction itself is the lock.
    """
    rows = HandlerPosition.objects.select_for_update(skip_locked=True, of=("self",))
    return rows.filter(pk=position_id).first()
