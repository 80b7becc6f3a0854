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
from .patience import Patience, in_pieces, is_locked, own_patience
from .work_batch import WorkBatch
from .work_operations import Outcome, joined

#: Jobs that one sweep takes from their workers.
SWEPT = 200
#: Seconds that a sweep waits for locks. Nobody waits for the sweep, and publishers wait for its thread.
PATIENCE = 0.02
#: Seconds that a sweep which met a lock has besides, to find out which jobs need the lock.
RETRIES = 0.1
#: The oldest claims come first. SQLite would read all jobs for an order by their ids, also those that ended.
_ORDER = ("claimed_at", "id")


def sweep() -> Outcome:
    """Take jobs from workers that are gone for longer than ``claim_grace``, or whose lease is over.

    Every process may call this at the same time, and they take different jobs. A job that meets a lock follows with a later
    sweep. ``more`` of the outcome says that the next sweep should be at once. ``answers`` is empty.
    """
    if not Job.objects.filter(state=CLAIMED).exists():
        return Outcome([], [], {})
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        now = statements().now(wrapper.cursor, None)
    alive = nodes.alive_ids()
    more = _note_the_gone(now, alive)
    overdue = _overdue(now, alive)
    if not overdue.exists():
        return Outcome([], [], {}, more)
    patience = Patience(PATIENCE, RETRIES)
    try:
        outcome = _expire(alive, patience.left)
        full = len(outcome.changes) == SWEPT
    except (OperationalError, Contended) as problem:
        if not is_locked(problem):
            raise
        # A job dies after its last attempt, and its letter needs the lock of a log. The others need none, so they go first.
        keys = list(overdue.order_by("attempt", "id").values_list("pk", flat=True)[:SWEPT])
        returned = _expire(alive, patience.left, keys, deaths=False)
        pieces = in_pieces(keys, lambda some, seconds: _expire(alive, seconds, some), patience)
        outcome = joined([returned, *(one for _, one in pieces if one is not None)])
        # The lock may last. Sweeps at once would then do little else than to meet it.
        full = len(outcome.changes) > SWEPT // 2
    return outcome._replace(more=more or full)


def _expire(
    alive: Collection[str], seconds: float, keys: Collection[int] | None = None, *, deaths: bool = True
) -> Outcome:
    """Take overdue jobs from their workers in one transaction: of ``keys``, or of all. It waits ``seconds`` for a lock.

    Jobs whose rows are locked are left out, and without ``deaths`` those that would die.
    """
    with own_patience(seconds), transaction.atomic():
        batch = WorkBatch(patience=seconds)
        overdue = _overdue(batch.now, alive)
        if keys is not None:
            overdue = overdue.filter(pk__in=keys)
        jobs = list(locking(overdue).order_by(*_ORDER)[:SWEPT])
        batch.look_up(jobs)
        for job in jobs:
            if deaths or job.attempt < batch.rule(job).attempts:
                batch.returned(job, "expired", _why(job, batch.now))
        batch.write()
        return Outcome([], batch.changes, batch.ready)


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


def _note_the_gone(now: datetime, alive: Collection[str]) -> bool:
    """Note since when workers have no connection, and forget it for those that are back. Returns whether there may be more."""
    claimed = Job.objects.filter(state=CLAIMED, rest=False)
    gone = claimed.filter(~Exists(_connected(alive)), gone_at=None).order_by(*_ORDER)
    back = claimed.filter(Exists(_connected(alive)), gone_at__isnull=False).order_by(*_ORDER)
    if not gone.exists() and not back.exists():
        return False
    with transaction.atomic():
        left = list(locking(gone).values_list("pk", "client_id", "claimed_at")[:SWEPT])
        found = list(locking(back).values_list("pk", flat=True)[:SWEPT])
        seen = _last_seen({name for _, name, _ in left}, now)
        rows = [Job(pk=key, gone_at=min(now, max(seen.get(name, now), at or now))) for key, name, at in left]
        Job.objects.bulk_update([*rows, *(Job(pk=key, gone_at=None) for key in found)], ["gone_at"])
    return SWEPT in (len(left), len(found))


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
