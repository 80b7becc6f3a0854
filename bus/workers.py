"""Functions of your project that do the jobs of work channels.

::

    from bus.workers import Job, work_on

    @work_on("images:resize")
    def resize(job: Job) -> dict[str, int]:
        image = Image.objects.get(pk=job.payload["image"])
        return image.resize()

Put the function into the module ``workers`` of an app, and run ``manage.py runworkers``. The function and the end of its job are
one transaction: if the job has gone to another worker meanwhile, nothing of the function stays. Its result ends the job. An
exception gives the job back, with a longer delay after each attempt. :class:`Rejected` declares it dead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import msgspec
from django.db import transaction

from .auth.permissions import SYSTEM, Actor
from .db.repeating import repeated
from .monitoring.failures import where
from .protocol.errors import BusError, ErrorCode
from .services import claim_jobs, finish_job, reject_job, release_job, renew_claim
from .shapes import Claim

logger = logging.getLogger("arqonbus.work")

#: The longest delay after a failed attempt, in seconds.
LONGEST_DELAY = 3600.0
#: What a renewal says if the claim does not come back.
GONE = frozenset({ErrorCode.CLAIM_LOST, ErrorCode.CLAIM_NOT_FOUND})

#: What a result is refused with. Another attempt would end in the same way.
UNSENDABLE = frozenset({ErrorCode.VALIDATION_ERROR, ErrorCode.FRAME_TOO_LARGE})


class Rejected(Exception):
    """Raise this in a worker for a job that nobody can do. Its text is the error of the job."""


class Job(NamedTuple):
    """A job, as its function gets it. ``message`` is the whole frame."""

    message: dict[str, Any]
    attempt: int

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of the message."""
        payload: dict[str, Any] = self.message["payload"]
        return payload

    @property
    def seq(self) -> int:
        """The position of the message in the log of its channel."""
        seq: int = self.message["seq"]
        return seq


Function = Callable[[Job], Any]


class Registered(NamedTuple):
    """A function and the channel whose jobs it does."""

    channel: str
    function: Function


#: The functions of the project. The decorator fills it when the modules are imported.
REGISTERED: list[Registered] = []


def work_on(channel: str) -> Callable[[Function], Function]:
    """Let the decorated function do the jobs of a work channel, ``room:channel``. The function stays as it is."""

    def register(function: Function) -> Function:
        REGISTERED.append(Registered(channel, function))
        return function

    return register


def as_worker(name: str) -> Actor:
    """Return the project's own code as a worker with the client id ``name``."""
    return msgspec.structs.replace(SYSTEM, client_id=name)


def work_once(registered: Registered, actor: Actor) -> bool:
    """Claim one job of a function's channel and do it. Return False if none is ready.

    Raises ``BusError`` where nothing can be claimed, such as CHANNEL_NOT_FOUND, and the database's error.
    """
    found = claim_jobs(registered.channel, actor=actor).claims
    for claim in found:
        _do(registered, claim, actor)
    return bool(found)


def _do(registered: Registered, claim: Claim, actor: Actor) -> None:
    job = Job(msgspec.json.decode(claim.message), claim.attempt)
    try:
        with _renewed(claim, actor), transaction.atomic():
            result = registered.function(job)
            _finish(claim, result, actor)
    except Rejected as problem:
        why = str(problem)
        _end(registered, job, lambda: reject_job(claim.claim, error=why, actor=actor))
    except Exception as problem:  # noqa: BLE001 - whatever a worker raises, its job goes back
        if isinstance(problem, BusError) and problem.code == ErrorCode.CLAIM_LOST:
            _lost(registered, job, problem)
            return
        # The text of an exception may hold data of the message. It stands in the job's errors, and not in the log.
        _log(registered, job, "failed", where(problem))
        delay, error = min(2.0**claim.attempt, LONGEST_DELAY), f"{type(problem).__name__}: {problem}"
        _end(registered, job, lambda: release_job(claim.claim, delay=delay, error=error, actor=actor))


def _finish(claim: Claim, result: Any, actor: Actor) -> None:
    """End a job as done. Raises ``Rejected`` for a result that no attempt can send, and ``BusError``."""
    try:
        finish_job(claim.claim, result, actor=actor)
    except BusError as problem:
        if problem.code not in UNSENDABLE:
            raise
        raise Rejected(f"The result was refused. {problem}") from problem


def _end(registered: Registered, job: Job, end: Callable[[], object]) -> None:
    try:
        end()
    except BusError as problem:
        # The lease ends by itself.
        _lost(registered, job, problem)


def _lost(registered: Registered, job: Job, problem: BusError) -> None:
    why = problem.details[0].get("why", "") if problem.details else problem.code
    _log(registered, job, "was lost", why)


def _log(registered: Registered, job: Job, what: str, why: str) -> None:
    fields = {"event": "job_failed", "channel": registered.channel, "seq": job.seq, "attempt": job.attempt}
    logger.warning("%s #%d, attempt %d %s: %s", registered.channel, job.seq, job.attempt, what, why, extra=fields)


def _renewed(claim: Claim, actor: Actor) -> AbstractContextManager[None]:
    """Renew a claim from another thread for as long as a block lasts. A lost one shows at its end."""

    def renew() -> bool:
        try:
            renew_claim(claim.claim, actor=actor)
        except BusError as problem:
            # Where the claim may come back, somebody holds its row for a moment. It is asked again.
            return problem.code not in GONE
        return True

    return repeated(claim.lease / 3, renew)
