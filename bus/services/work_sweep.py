"""The sweep: jobs of workers that are gone, and jobs that a worker has for too long, are out again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from ..conf.settings import config
from ..log import Contended
from ..log.jobs import CLAIMED, locking
from ..log.jobs_sql import statements
from ..models import Client, Job, Node
from . import nodes
from .patience import is_locked, own_patience
from .work_batch import PATIENCE, WorkBatch
from .work_operations import Outcome

#: Jobs that one sweep takes from their workers.
SWEPT = 200


def sweep() -> Outcome:
    """Take jobs from workers that are gone for longer than ``claim_grace``, or whose lease is over.

    Every process may call this at the same time: a job whose row is locked follows with a later sweep. ``answers`` of the
    outcome is empty.
    """
    if not Job.objects.filter(state=CLAIMED).exists():
        return Outcome([], [], {})
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        now = statements().now(wrapper.cursor, None)
    alive = nodes.alive_ids()
    _note_the_gone(now, alive)
    overdue = list(_overdue(now, alive).order_by("id").values_list("pk", flat=True)[:SWEPT])
    return _expire(overdue, alive) if overdue else Outcome([], [], {})


def _expire(keys: Collection[int], alive: Collection[str]) -> Outcome:
    """Take these jobs from their workers, if they are still overdue. A job that meets a lock waits for a later sweep."""
    try:
        with own_patience(PATIENCE), transaction.atomic():
            batch = WorkBatch()
            jobs = list(locking(_overdue(batch.now, alive).filter(pk__in=keys)).order_by("id"))
            batch.look_up(jobs)
            for job in jobs:
                batch.returned(job, "expired", _why(job, batch.now))
            batch.write()
            return Outcome([], batch.changes, batch.ready)
    except (OperationalError, Contended) as problem:
        if isinstance(problem, OperationalError) and not is_locked(problem):
            raise
    whole = Outcome([], [], {})
    for key in keys if len(keys) > 1 else ():
        one = _expire([key], alive)
        whole.changes.extend(one.changes)
        for channel_id, count in one.ready.items():
            whole.ready[channel_id] = whole.ready.get(channel_id, 0) + count
    return whole


def _why(job: Job, now: datetime) -> str:
    if job.hold_until is not None and job.hold_until <= now:
        return "The worker held the job for too long."
    return "The worker is gone." if job.gone_at is not None else "The worker did not renew its lease."


def _overdue(now: datetime, alive: Collection[str]) -> QuerySet[Job]:
    """Return the claimed jobs that are out again. A grace counts only while a process serves, so that workers can come back."""
    grace = timedelta(seconds=config().claim_grace)
    up_since = nodes.up_since()
    claimed = Job.objects.filter(state=CLAIMED)
    # Nobody comes back for a job whose client id has another owner now.
    always = Q(hold_until__lte=now) | Q(rest=False, client_id="")
    if up_since is None or up_since > now - grace:
        return claimed.filter(always)
    gone = Q(rest=False, gone_at__lte=now - grace) & ~Q(Exists(_connected(alive)))
    return claimed.filter(always | Q(rest=True, lease_until__lte=now) | gone)


def _connected(alive: Collection[str]) -> QuerySet[Client]:
    """Return the connection of a job's worker."""
    return Client.objects.filter(client_id=OuterRef("client_id"), principal=OuterRef("principal"), node_id__in=alive)


def _note_the_gone(now: datetime, alive: Collection[str]) -> None:
    """Note since when workers have no connection, and forget it for those that are back."""
    claimed = Job.objects.filter(state=CLAIMED, rest=False)
    gone = list(
        claimed.filter(~Exists(_connected(alive)), gone_at=None)
        .order_by("id")
        .values_list("pk", "client_id", "claimed_at")[:SWEPT]
    )
    back = list(claimed.filter(Exists(_connected(alive)), gone_at__isnull=False).values_list("pk", flat=True)[:SWEPT])
    if not gone and not back:
        return
    left = _last_seen({name for _, name, _ in gone}, now)
    since = {key: min(now, max(left.get(name, now), at or now)) for key, name, at in gone}
    with transaction.atomic():
        free = locking(Job.objects.filter(pk__in=[*since, *back], state=CLAIMED)).order_by("id")
        rows = [Job(pk=key, gone_at=since.get(key)) for key in free.values_list("pk", flat=True)]
        Job.objects.bulk_update(rows, ["gone_at"])


def _last_seen(names: Collection[str], now: datetime) -> dict[str, datetime]:
    """Return when each of these clients was last seen: its disconnect, or the last heartbeat of its process."""
    # After an outage of the database every heartbeat is old. A process that lives has time for a new one then.
    earliest = now - timedelta(seconds=min(config().node_timeout, config().claim_grace / 2))
    beats = {key: max(beat, earliest) for key, beat in Node.objects.values_list("id", "heartbeat_at")}
    seen: dict[str, datetime] = {}
    clients = Client.objects.filter(client_id__in=names)
    for name, node_id, at in clients.values_list("client_id", "node_id", "disconnected_at"):
        if (last := beats.get(node_id, at)) is not None:
            seen[name] = last
    return seen
