"""What operators see of a work channel and do to its jobs."""

from __future__ import annotations

from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Count, Min, Q

from .. import shapes
from ..auth.permissions import JOIN, MANAGE, PRESENCE, Actor, can, require
from ..directory.channels import ChannelRef, find
from ..log import Contended
from ..log.jobs import CLAIMED, DEAD, DISCARDED, DONE, READY
from ..log.jobs_sql import statements
from ..models import Job, Message, wire_time
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.routing import channel_not_found
from . import audit
from .dead_letters import SHOWN
from .patience import is_locked, own_patience
from .work_batch import PATIENCE, WorkBatch, held
from .work_operations import Outcome, announce_work, no_work

#: Claims and dead jobs that an overview lists.
LISTED = 100


def overview(actor: Actor, address: Address) -> shapes.WorkOverview:
    """Return what a work channel has to do, and who does it.

    Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN without the right to join, or VALIDATION_ERROR for a channel without work.
    """
    ref = _work_channel(actor, address, JOIN)
    manages = can(actor, MANAGE, address, private=ref.private)
    named = manages or not (ref.counted or ref.uncounted)
    names = named and can(actor, PRESENCE, address, private=ref.private)
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        now = statements().now(wrapper.cursor, None)
    jobs = Job.objects.filter(channel_id=ref.id)
    ready = jobs.filter(state=READY).aggregate(
        due=Count("id", filter=Q(due_at__lte=now)), later=Count("id", filter=Q(due_at__gt=now)), oldest=Min("due_at")
    )
    claimed = jobs.filter(state=CLAIMED)
    dead = jobs.filter(state=DEAD)
    assert ref.work is not None
    return shapes.WorkOverview(
        room=address.room,
        channel=address.channel,
        work=ref.work,
        ready=ready["due"],
        delayed=ready["later"],
        claimed=[
            shapes.ClaimedJob(
                seq=job.seq,
                by=job.client_id if names else None,
                attempt=job.attempt,
                since=wire_time(job.claimed_at or now),
                lease_until=wire_time(job.lease_until or now),
            )
            for job in claimed.order_by("claimed_at", "id")[:LISTED]
        ],
        claimed_count=claimed.count(),
        oldest=wire_time(ready["oldest"]) if ready["due"] else None,
        dead=[
            shapes.DeadJob(
                seq=job.seq,
                attempts=job.attempt,
                errors=[_shown(failure, names) for failure in job.errors[-1:]],
                at=wire_time(job.ended_at or now),
            )
            for job in dead.order_by("id")[:LISTED]
        ],
        dead_count=dead.count(),
        manage=manages,
    )


def _shown(failure: dict[str, Any], names: bool) -> shapes.Failure:
    """Return a failure as an overview shows it: cut, so that a hundred jobs fit into one frame."""
    by = failure["by"] if names else None
    return shapes.Failure(**{**failure, "error": failure["error"][:SHOWN], "by": by})


def _work_channel(actor: Actor, address: Address, action: str) -> ChannelRef:
    ref = find(address)
    require(actor, action, address, private=bool(ref and ref.private))
    if ref is None or not address.is_channel:
        raise channel_not_found(address)
    if ref.work is None:
        raise no_work(address)
    return ref


def retry(actor: Actor, address: Address, seq: int, *, door: str = "socket") -> shapes.JobState:
    """Make a dead or discarded job ready anew, or a delayed one due now. Returns the job's state, and tells everybody.

    Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN without the right to manage, VALIDATION_ERROR for a job that another worker
    has or had, or UNAVAILABLE.
    """
    return _operate(actor, address, seq, "retry_job", door)


def discard(actor: Actor, address: Address, seq: int, *, door: str = "socket") -> shapes.JobState:
    """End a job that is not done. A worker that has it finds its claim cancelled. Returns the job's state, and tells everybody.

    Raises ``BusError`` as :func:`retry`.
    """
    return _operate(actor, address, seq, "discard_job", door)


def _operate(actor: Actor, address: Address, seq: int, action: str, door: str) -> shapes.JobState:
    ref = _work_channel(actor, address, MANAGE)
    try:
        with own_patience(PATIENCE), transaction.atomic():
            batch = WorkBatch()
            batch.meet([ref])
            jobs = Job.objects.select_for_update(of=("self",), no_key=True)
            job = jobs.filter(channel_id=ref.id, seq=seq).first()
            if job is None:
                raise _wrong_job("There is no job with this seq.")
            by = actor.client_id or actor.name
            if action == "retry_job":
                _retry(batch, job, by)
            elif job.state == DONE:
                raise _wrong_job("The job is done.")
            elif job.state != DISCARDED:
                batch.discarded(job, by)
            batch.write()
            audit.record(actor, door, action, str(address), seq=seq)
            announce_work(Outcome([], batch.changes, batch.ready))
    except (OperationalError, Contended) as problem:
        if not is_locked(problem):
            raise
        raise held() from problem
    return shapes.JobState(seq=seq, state=job.state)


def _retry(batch: WorkBatch, job: Job, by: str) -> None:
    if job.state in (CLAIMED, DONE):
        raise _wrong_job("A worker has the job." if job.state == CLAIMED else "The job is done.")
    if not Message.objects.filter(channel_id=job.channel_id, seq=job.seq).exists():
        raise _wrong_job("The message of the job is gone.")
    batch.retried(job, by)


def _wrong_job(message: str) -> BusError:
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "seq", "message": message}])
