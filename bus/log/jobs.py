"""Jobs in the log: what other parts of the bus do to many of them at once."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from ..models import Job

READY, CLAIMED, DONE, DEAD, DISCARDED = (state.value for state in Job.State)
#: The states of a job whose message the retention must keep.
KEPT = (READY, CLAIMED, DEAD)


def locking(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Return the query with a lock on those of its rows that no other transaction has locked."""
    return jobs.select_for_update(of=("self",), no_key=True, skip_locked=True)


def held_by(client_ids: Collection[str]) -> QuerySet[Job]:
    """Return the jobs that these clients have claimed over a socket."""
    return Job.objects.filter(state=CLAIMED, rest=False, client_id__in=client_ids)


def note_gone(client_ids: Collection[str], since: datetime) -> None:
    """Note since when the workers among these clients have no connection. A locked row follows with a later sweep."""
    if not client_ids:
        return
    with transaction.atomic():
        free = list(locking(held_by(client_ids).filter(gone_at=None)).order_by("id").values_list("id", flat=True))
        if free:
            Job.objects.filter(pk__in=free).update(gone_at=since)


def disclaim(client_ids: Collection[str]) -> set[str]:
    """Take the jobs of these clients from them: somebody else got their ids without a proof.

    The next sweep hands the jobs out again. Call it in the transaction of the claims of the ids. It waits for no lock. Returns
    the clients with a job whose row is locked. Their jobs stay as they are.
    """
    owners = dict(held_by(client_ids).values_list("pk", "client_id"))
    if not owners:
        return set()
    free = set(locking(Job.objects.filter(pk__in=owners)).order_by("id").values_list("pk", flat=True))
    held = {name for key, name in owners.items() if key not in free}
    taken = [key for key, name in owners.items() if name not in held]
    Job.objects.filter(pk__in=taken).update(client_id="", principal="", gone_at=datetime.fromtimestamp(0, tz=UTC))
    return held


def forget_jobs(window: float, limit: int) -> int:
    """Remove jobs that ended more than ``window`` seconds ago, at most ``limit``. Return how many were removed."""
    old = Job.objects.filter(state__in=(DONE, DISCARDED), ended_at__lt=timezone.now() - timedelta(seconds=window))
    keys = list(old.order_by("ended_at").values_list("pk", flat=True)[:limit])
    return Job.objects.filter(pk__in=keys, state__in=(DONE, DISCARDED)).delete()[0]
