"""Leased work: claims of jobs and their ends, the sweep for workers that are gone, and what operators do.

:func:`apply` and :func:`sweep` leave it to the caller to tell of what they did (``Outcome``). A process gathers that for its
clients. Other callers call :func:`announce_work`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
from django.db import connection, transaction

from .. import shapes
from ..conf.settings import config
from ..log.jobs import CLAIMED, DEAD, DONE, READY
from ..log.jobs_sql import Look, Wanted, statements
from ..models import Job, Message
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from . import claim_tokens
from .patience import Patience, in_pieces, own_patience
from .work_batch import PATIENCE, WorkBatch, held
from .work_operations import (
    LONGEST_DELAY,
    Claim,
    Done,
    Operation,
    Outcome,
    Reject,
    Release,
    Renew,
    Worker,
    announce_work,
    joined,
    no_work,
)
from .work_overview import discard, overview, retry
from .work_sweep import sweep

__all__ = [
    "LONGEST_DELAY", "Claim", "Done", "Operation", "Outcome", "Reject", "Release", "Renew", "Worker", "announce_work", "apply",
    "discard", "no_work", "overview", "ready_now", "retry", "sweep",
]  # fmt: skip

#: Seconds that a group which met a lock has, after its patience, to find out which operations need the lock.
RETRIES = 0.5
#: Operations, ordered by the locks that they need: a death needs that of the log for dead letters.
_NEEDS = (Renew, Claim, Done, Release, Reject)
#: Jobs that one transaction claims in a channel at most.
MOST = 1000
#: Ready jobs that an answer counts at most.
COUNTED = 1000
#: Ready jobs that a look for waiting claims counts at most.
LOOKED = 100


def apply(operations: Sequence[Operation]) -> Outcome:
    """Carry out the operations in one transaction. One that cannot be done, or that meets a lock, fails alone.

    Its answer is a ``BusError``: CLAIM_NOT_FOUND, CLAIM_LOST, LIMIT_REACHED, VALIDATION_ERROR or UNAVAILABLE. Raises the
    database's error if the database fails.
    """

    def write(places: Sequence[int], seconds: float) -> Outcome:
        with own_patience(seconds), transaction.atomic():
            return _apply([operations[place] for place in places], seconds)

    def needs(place: int) -> int:
        return _NEEDS.index(type(operations[place]))

    answers: list[Any] = [None] * len(operations)
    outcomes = []
    for places, one in in_pieces(range(len(operations)), write, Patience(PATIENCE, RETRIES), needs):
        outcomes.append(one or Outcome([held() for _ in places], [], {}))
        for place, answer in zip(places, outcomes[-1].answers, strict=True):
            answers[place] = answer
    return joined(outcomes)._replace(answers=answers)


def _apply(operations: Sequence[Operation], seconds: float) -> Outcome:
    answers: list[Any] = [None] * len(operations)
    claims = [(i, o) for i, o in enumerate(operations) if isinstance(o, Claim)]
    ends = [(i, o) for i, o in enumerate(operations) if not isinstance(o, Claim)]
    named = _named(ends, answers)
    look = _look(claims, named, seconds)
    batch = WorkBatch(look.now, seconds)
    ready = {job.pk for job in look.jobs if job.state == READY}
    if named:
        _end(batch, ends, named, look, answers)
    if claims:
        again = any(claim.have is not None for _, claim in claims)
        if batch.has_moved((job.pk for job in look.jobs) if again else ready):
            # The claims must see what the ends did to jobs that they would get too: ready ones, and those that a worker has.
            batch.write_rows()
            look = _look(claims, {}, seconds)
        _claim(batch, claims, look, answers)
    batch.write()
    for i, operation in ends:
        job = answers[i]
        if isinstance(operation, Done) and isinstance(job, Job):
            answers[i] = shapes.Finished(claim=operation.token, seq=job.seq, replied=batch.replied(job))
    return Outcome(answers, batch.changes, batch.ready)


def _look(claims: Sequence[tuple[int, Claim]], named: Mapping[int, claim_tokens.Claimed], seconds: float) -> Look:
    """Read and lock what the operations need."""
    due: dict[int, int] = {}
    for _, claim in claims:
        if claim.ref.work is not None:
            due[claim.ref.id] = min(due.get(claim.ref.id, 0) + claim.most, MOST)
    names = {claim.worker.client_id for _, claim in claims} if config().claims else ()
    connected = {claim.worker.client_id for _, claim in claims if _is_bound(claim)}
    wanted = Wanted(
        [one.job for one in named.values()],
        sorted(names),
        due,
        COUNTED,
        config().frame_bytes * len(claims),
        sorted(connected),
    )
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        return statements().look(wrapper.cursor, wanted, seconds)


# --- claims -------------------------------------------------------------------------------------------------------------


def _claim(batch: WorkBatch, claims: Sequence[tuple[int, Claim]], look: Look, answers: list[Any]) -> None:
    batch.meet(claim.ref for _, claim in claims)
    room = _room({claim.worker for _, claim in claims}, look.held)
    by_channel: dict[int, list[tuple[int, Claim]]] = {}
    for i, claim in claims:
        if claim.ref.work is None:
            answers[i] = no_work(claim.ref.address)
        elif _is_bound(claim) and look.connections.get(claim.worker.client_id) != claim.connection_id:
            # Nobody would work on the job: its worker's id belongs to another client.
            answers[i] = BusError(ErrorCode.TAKEN_OVER)
        elif room.get(claim.worker.client_id, 1) <= 0:
            answers[i] = _too_many()
        else:
            by_channel.setdefault(claim.ref.id, []).append((i, claim))
    for channel_id, some in by_channel.items():
        _claim_in(batch, channel_id, some, look, answers, room)


def _is_bound(claim: Claim) -> bool:
    """Return whether a claim counts only for its connection. A principal's client ids stay its own."""
    return bool(claim.connection_id) and not claim.worker.principal


def _claim_in(
    batch: WorkBatch,
    channel_id: int,
    claims: Sequence[tuple[int, Claim]],
    look: Look,
    answers: list[Any],
    room: dict[str, int],
) -> None:
    """Give the ready jobs of one channel to its claims, in the order of both."""
    known: dict[int, list[Job]] = {}
    for i, claim in claims:
        if claim.have is not None:
            answered = {job.pk for some in known.values() for job in some}
            known[i] = _fitting(_unheard(claim, answered))
    due = look.due[channel_id]
    frames = _frames(channel_id, [job for some in known.values() for job in some])
    jobs: deque[Job] = deque()
    for job, frame in due:
        if frame is None:
            # Somebody deleted the message itself.
            batch.discarded(job, None)
        elif frame:
            frames[job.seq] = legible(frame.encode(), job.seq)
            jobs.append(job)
        else:
            # Neither this one nor those behind it were read.
            break
    taken: dict[int, list[Job]] = {}
    for i, claim in claims:
        taken[i] = known.get(i, [])
        most = min(claim.most - len(taken[i]), room.get(claim.worker.client_id, claim.most))
        left = config().frame_bytes - sum(len(frames.get(job.seq, b"")) for job in taken[i])
        while jobs and most > 0 and (left >= len(frames[jobs[0].seq]) or not taken[i]):
            job = jobs.popleft()
            batch.claimed(job, claim.worker)
            taken[i].append(job)
            left -= len(frames[job.seq])
            most -= 1
            if claim.worker.client_id in room:
                room[claim.worker.client_id] -= 1
    left_over = look.ready.get(channel_id, 0) - sum(job.state != READY for job, _ in due)
    ready = min(max(left_over, 0), COUNTED)
    for i, claim in claims:
        rule = claim.ref.work
        assert rule is not None
        answers[i] = shapes.Claims(
            claims=[
                shapes.Claim(
                    claim=claim_tokens.token_of(job.pk, job.claims, claim.worker),
                    attempt=job.attempt,
                    lease=rule.lease,
                    hold=rule.hold,
                    message=msgspec.Raw(frames[job.seq]),
                )
                for job in taken[i]
                if job.seq in frames
            ],
            ready=ready,
        )


def _fitting(jobs: Sequence[Job]) -> list[Job]:
    """Return the first of the jobs, and those after it whose messages fit into about one frame together."""
    left = config().frame_bytes
    fitting: list[Job] = []
    for job in jobs:
        left -= job.size
        if left < 0 and fitting:
            break
        fitting.append(job)
    return fitting


def _unheard(claim: Claim, answered: Collection[int]) -> list[Job]:
    """Return the jobs that a worker has, and whose claims it does not know: their answers were lost.

    Those in ``answered`` are in another answer.
    """
    worker, heard = claim.worker, set(claim.have or ())
    if worker.rest and not worker.principal:
        # Anonymous callers without a socket share their id, so these may be the jobs of another one.
        return []
    own = Job.objects.filter(
        channel_id=claim.ref.id,
        state=CLAIMED,
        client_id=worker.client_id,
        principal=worker.principal,
        # A worker with a socket and one without may have the same id, and each has its own jobs.
        rest=worker.rest,
    )
    # Few clients have any jobs here, and signatures are made for those alone.
    jobs = own.exclude(pk__in=answered).order_by("claimed_at", "id")[: COUNTED + claim.most]
    unheard = (job for job in jobs if heard.isdisjoint(claim_tokens.tokens_of(job.pk, job.claims, worker)))
    return list(islice(unheard, claim.most))


def _room(workers: set[Worker], held: Mapping[str, int]) -> dict[str, int]:
    """Return how many more jobs each client may have, beside those that it has. Empty without a limit."""
    most = config().claims
    return {worker.client_id: most - held.get(worker.client_id, 0) for worker in workers} if most else {}


def _too_many() -> BusError:
    metrics.limits.labels("claims").inc()
    most = config().claims
    text = f"You have {most} jobs, which is the limit. End one first."
    return BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": "claims", "value": most}], 1.0)


def _frames(channel_id: int, jobs: Sequence[Job]) -> dict[int, bytes]:
    if not jobs:
        return {}
    rows = Message.objects.filter(channel_id=channel_id, seq__in=[job.seq for job in jobs]).order_by()
    return {seq: legible(frame.encode(), seq) for seq, frame in rows.values_list("seq", "frame")}


def ready_now(channel_ids: Sequence[int]) -> dict[int, int]:
    """Return how many jobs of each of these work channels are ready and due, counted up to :data:`LOOKED`.

    A channel that is gone, or that is no work channel any more, is left out. Costs one query.
    """
    with connection.cursor() as wrapper, connection.wrap_database_errors:
        return statements().ready(wrapper.cursor, channel_ids, LOOKED)


# --- the ends of claims ---------------------------------------------------------------------------------------------------


def _named(ends: Sequence[tuple[int, Operation]], answers: list[Any]) -> dict[int, claim_tokens.Claimed]:
    """Return what the tokens name, by the places of their operations. Wrong tokens have their answer."""
    named: dict[int, claim_tokens.Claimed] = {}
    for i, operation in ends:
        assert not isinstance(operation, Claim)
        found = claim_tokens.read(operation.token, operation.worker)
        if found is None:
            answers[i] = BusError(ErrorCode.CLAIM_NOT_FOUND)
        else:
            named[i] = found
    return named


def _end(
    batch: WorkBatch,
    ends: Sequence[tuple[int, Operation]],
    named: Mapping[int, claim_tokens.Claimed],
    look: Look,
    answers: list[Any],
) -> None:
    """Renew claims, and end them. The answer of a job that is done is the job itself, until its reply is written."""
    jobs = {job.pk: job for job in look.jobs}
    if any(i in named and not isinstance(operation, Done) for i, operation in ends):
        batch.look_up(jobs.values())
    for i, operation in ends:
        if i in named:
            assert not isinstance(operation, Claim)
            try:
                answers[i] = _end_one(batch, operation, jobs.get(named[i].job), named[i].number)
            except BusError as problem:
                answers[i] = problem


#: Why a claim is lost that was the last one of its job, by the state of the job. Otherwise it is ``cancelled``.
_WHY = {READY: "expired", DONE: "done"}


def _end_one(batch: WorkBatch, operation: Renew | Done | Release | Reject, job: Job | None, number: int) -> Any:
    """Carry out one operation. Raises ``BusError`` CLAIM_LOST, or FRAME_TOO_LARGE for a large result."""
    if job is None:
        # The channel is gone, or the job ended a day ago.
        raise _lost(operation.token, "cancelled", None)
    if number != job.claims:
        raise _lost(operation.token, "taken", job, by=job.client_id)
    if isinstance(operation, Done):
        if job.state == DONE:
            return job
        _check(operation.result)
        if job.state == CLAIMED or (job.state == READY and job.last_reason == "expired"):
            batch.done(job, operation.result)
            return job
    elif job.state == CLAIMED:
        return _carry_out(batch, operation, job)
    raise _lost(operation.token, _WHY.get(job.state, "cancelled"), job)


def _check(result: bytes | None) -> None:
    """Raise ``BusError`` FRAME_TOO_LARGE for a result that is too large. Half a frame leaves room for its envelope."""
    most = config().frame_bytes // 2
    if result is not None and len(result) > most:
        text = f"The result has {len(result)} bytes. The limit is {most}."
        raise BusError(ErrorCode.FRAME_TOO_LARGE, text, [{"field": "result"}])


def _carry_out(batch: WorkBatch, operation: Renew | Release | Reject, job: Job) -> Any:
    if isinstance(operation, Renew):
        if job.hold_until is not None and job.hold_until <= batch.now:
            batch.returned(job, "expired", "The worker held the job for too long.")
            raise _lost(operation.token, "expired", job)
        batch.renewed(job)
        return shapes.Renewed(claim=operation.token, lease=batch.rule(job).lease)
    if isinstance(operation, Reject):
        batch.rejected(job, operation.error)
    elif operation.unused:
        batch.unused(job)
    else:
        batch.returned(job, "released", operation.error, delay=min(max(operation.delay, 0.0), LONGEST_DELAY))
    return shapes.Returned(claim=operation.token, seq=job.seq, state="dead" if job.state == DEAD else "ready")


def _lost(token: str, why: str, job: Job | None, *, by: str | None = None) -> BusError:
    detail = {"claim": token, "why": why, "by": by or None, "seq": None if job is None else job.seq}
    return BusError(ErrorCode.CLAIM_LOST, details=[detail])
