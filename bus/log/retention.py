"""What the retention removes: which messages are too many or too old, and their removal in short transactions.

Most channels of a large database have nothing to remove for days. So a process that prunes regularly asks only for the
channels that something happened to (:class:`Retention`), and now and then for all.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Max, Min, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from ..models import Amendment, Channel, Job, Message, PublishKey, Question, Stream
from .effects import OPEN
from .erasures import forget_erasures
from .jobs import KEPT, forget_jobs
from .looks import LATE, Floor
from .store import first_seq, seq_before

#: Seconds between two looks at all channels.
WHOLE = 3600.0
#: Channels in one query.
BATCH = 1000


class _Seen(NamedTuple):
    """Up to where a look went: the default rule, the newest message, the time before which messages were too old.

    ``needed`` are the channels whose messages somebody needed, and ``next_whole`` is when all channels are next.
    """

    rule: tuple[int, float] | None = None
    newest: int = 0
    expired_until: datetime | None = None
    needed: frozenset[int] = frozenset()
    next_whole: float = 0.0


class Retention:
    """Finds what must go, for a process that does so regularly. The first look, and one each hour, is at all channels.

    The others are at the channels that got messages since, whose messages became too old since, that have a retention of their
    own, or whose messages somebody needed at the look before.
    """

    def __init__(self) -> None:
        self._messages = Floor()
        self._seen = self._looked = _Seen()

    def due(self, default_count: int, default_age: float) -> list[tuple[int, int]]:
        """Return as :func:`prunable`. Call :meth:`done` when all of it is removed: else it is found again."""
        now = time.monotonic()
        newest = Message.objects.aggregate(newest=Max("id"))["newest"] or 0
        cutoff = timezone.now() - timedelta(seconds=default_age)
        among: set[int] | None = None
        rule = (default_count, default_age)
        if self._seen.rule == rule and now < self._seen.next_whole:
            among = self._happened(default_count, default_age, newest, cutoff)
        found = _beyond_the_rules(default_count, default_age, among)
        lowered = _before_the_needed(found)
        self._looked = _Seen(
            rule,
            newest,
            cutoff,
            frozenset(row[0] for row, needed in zip(found, lowered, strict=True) if needed[1] < row[1]),
            now + WHOLE if among is None else self._seen.next_whole,
        )
        return lowered

    def done(self) -> None:
        """Note that what the last :meth:`due` returned is removed."""
        self._seen = self._looked
        self._messages.saw(self._seen.newest, time.monotonic())

    def _happened(self, count: int, age: float, newest: int, cutoff: datetime) -> set[int] | None:
        """Return the channels that may have something to remove; None where a look at all channels costs less."""
        found = set(self._seen.needed)
        found.update(_with_rules().values_list("id", flat=True))
        if count:
            floor = self._messages.value
            if floor is None or newest - floor > (Channel.objects.aggregate(newest=Max("id"))["newest"] or 0):
                return None
            rows = Message.objects.filter(id__gt=floor).order_by()
            found.update(rows.values_list("channel_id", flat=True).distinct())
        if age and self._seen.expired_until is not None:
            since = self._seen.expired_until - timedelta(seconds=LATE)
            rows = Message.objects.filter(created_at__gte=since, created_at__lt=cutoff).order_by()
            found.update(rows.values_list("channel_id", flat=True).distinct())
        return found


def _with_rules() -> QuerySet[Channel]:
    """Return the channels with a retention of their own. They have an index."""
    return Channel.objects.filter(Q(retention_count__isnull=False) | Q(retention_age__isnull=False)).order_by()


def prunable(*, default_count: int, default_age: float) -> list[tuple[int, int]]:
    """Return ``(channel_id, seq)`` of channels with more messages than their retention allows. Messages up to ``seq`` must go.

    ``default_count`` and ``default_age`` (seconds) hold for channels without a retention of their own; 0 means no limit.
    """
    return _before_the_needed(_beyond_the_rules(default_count, default_age, None))


def _beyond_the_rules(default_count: int, default_age: float, among: Collection[int] | None) -> list[tuple[int, int]]:
    """Return as :func:`prunable`, for some channels or for all, whether somebody needs the messages or not."""
    now = timezone.now()
    found: list[tuple[int, int]] = []
    by_count = Q(retention_count__gt=0, head__gt=F("retention_count"))
    if default_count:
        by_count |= Q(retention_count__isnull=True, head__gt=default_count)
    by_age = Q(retention_age__gt=0)
    if default_age and among is not None:
        by_age |= Q(retention_age__isnull=True)
    elif default_age:
        old = Message.objects.filter(created_at__lt=now - timedelta(seconds=default_age)).order_by()
        by_age |= Q(retention_age__isnull=True, id__in=old.values("channel_id"))
    oldest = Message.objects.filter(channel_id=OuterRef("pk")).order_by("seq")
    channels = Channel.objects.filter(by_count | by_age, head__gt=0).order_by()
    channels = channels.annotate(oldest=Subquery(oldest.values("seq")[:1]))
    fields = ("id", "head", "retention_count", "retention_age", "oldest")
    for rows in _parts(channels, among):
        for channel_id, head, own_count, own_age, first in rows.values_list(*fields):
            if first is None:
                continue
            count = default_count if own_count is None else own_count
            age = default_age if own_age is None else own_age
            floor = head - count if count else 0
            if age:
                floor = max(floor, _seq_older(channel_id, first, now - timedelta(seconds=age)))
            if first <= floor:
                found.append((channel_id, floor))
    return found


def _parts(channels: QuerySet[Channel], among: Collection[int] | None) -> Iterator[QuerySet[Channel]]:
    if among is None:
        yield channels
        return
    ordered = sorted(among)
    for start in range(0, len(ordered), BATCH):
        yield channels.filter(id__in=ordered[start : start + BATCH])


def _seq_older(channel_id: int, first: int, moment: datetime) -> int:
    """Return the last seq that was written before ``moment``; 0 if not even the ``first`` message was."""
    at = Message.objects.filter(channel_id=channel_id, seq=first).values_list("created_at", flat=True).first()
    return seq_before(channel_id, moment) if at is not None and at < moment else 0


def _before_the_needed(floors: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the floors, lowered so that the messages of open streams, open questions and jobs that somebody may do stay.

    A log has no holes, so what follows stays.
    """
    oldest: dict[int, int] = {}
    for start in range(0, len(floors), BATCH):
        channel_ids = [channel_id for channel_id, _ in floors[start : start + BATCH]]
        for needed in (
            Stream.objects.filter(state=OPEN),
            Question.objects.filter(state=Question.State.OPEN),
            # One query for each state, because each has its index. A list of states would read the jobs that are done, too.
            *(Job.objects.filter(state=state) for state in KEPT),
        ):
            rows = needed.filter(channel_id__in=channel_ids).order_by().values_list("channel_id").annotate(Min("seq"))
            for channel_id, seq in rows:
                oldest[channel_id] = min(seq, oldest.get(channel_id, seq))
    return [(channel_id, min(floor, oldest.get(channel_id, floor + 1) - 1)) for channel_id, floor in floors]


def beyond(floors: Sequence[tuple[int, int]]) -> int:
    """Return how many messages lie at or below the seq of each ``(channel_id, seq)``."""
    return sum(Message.objects.filter(channel_id=channel_id, seq__lte=floor).count() for channel_id, floor in floors)


def drop(channel_id: int, floor: int, limit: int) -> int:
    """Remove at most ``limit`` messages of a log, oldest first, up to the seq ``floor``. Return how many were removed.

    The rows of ended streams go with their openings.
    """
    oldest = first_seq(channel_id)
    if oldest is None or oldest > floor:
        return 0
    last = min(floor, oldest + limit - 1)
    with transaction.atomic():
        Stream.objects.filter(channel_id=channel_id, seq__lte=last).exclude(state=OPEN)._raw_delete(using="default")
        # An amendment comes after its message, so it goes with it.
        Amendment.objects.filter(channel_id=channel_id, of_seq__lte=last)._raw_delete(using="default")
        return Message.objects.filter(channel_id=channel_id, seq__lte=last).delete()[0]


def forget_keys(window: float, limit: int) -> int:
    """Remove senders' message ids older than ``window`` seconds, at most ``limit``. Return how many were removed."""
    old = PublishKey.objects.filter(created_at__lt=timezone.now() - timedelta(seconds=window))
    return PublishKey.objects.filter(key__in=list(old.values_list("key", flat=True)[:limit])).delete()[0]


def prune(*, default_count: int, default_age: float, window: float, limit: int = 5000) -> int:
    """Remove messages above each channel's retention, oldest first, at most ``limit`` of each channel. Return how many.

    Senders' message ids older than ``window`` seconds go too, and so do jobs that ended before.
    """
    floors = prunable(default_count=default_count, default_age=default_age)
    dropped = sum(drop(channel_id, floor, limit) for channel_id, floor in floors)
    for forget in (forget_keys, forget_jobs, forget_erasures):
        while forget(window, limit) == limit:
            pass
    return dropped
