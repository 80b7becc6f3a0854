"""What one transaction does to jobs: rows that were locked change in memory, and one statement writes them.

Rows of jobs are locked before those of channels, in the order of their ids. Whoever claims jobs waits for no lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connection, transaction

from ..conf.settings import config
from ..directory.channels import ChannelRef, ref_of
from ..log import append_batch
from ..log.jobs import CLAIMED, DEAD, DISCARDED, DONE, READY
from ..log.jobs_sql import CHANGING, statements
from ..models import Channel, Job, wire_time
from ..notify.messages import WorkChange
from ..protocol.errors import BusError, ErrorCode
from ..publishing.announce import announce
from ..shapes import WorkRule
from . import dead_letters
from .job_replies import replies_of_jobs, was_answered
from .work_operations import LONGEST_ERROR, Worker

#: Failures that a job remembers, the newest ones.
REMEMBERED = 20
#: Seconds that a transaction waits for a lock. It may run in the thread that writes the log.
PATIENCE = 0.25

_PLACES = tuple(CHANGING)
_ERRORS = _PLACES.index("errors")


class WorkBatch:
    """The jobs that one transaction changes. Make it inside the transaction, and call :meth:`write` at its end.

    ``now`` is the time of the clock that all jobs go by, where the caller has asked for it. ``patience`` is how many seconds the
    transaction waits for a lock. ``changes`` and ``ready`` are those of ``work_operations.Outcome``.
    """

    def __init__(self, now: datetime | None = None, patience: float = PATIENCE) -> None:
        if now is None:
            with connection.cursor() as wrapper, connection.wrap_database_errors:
                now = statements().now(wrapper.cursor, patience)
        self.now = now
        self._patience = patience
        self.changes: list[WorkChange] = []
        self.ready: dict[int, int] = {}
        self._moved: dict[int, Job] = {}
        # The jobs among those that are written already.
        self._written: set[int] = set()
        self._refs: dict[int, ChannelRef] = {}
        self._letters: list[Job] = []
        # The jobs with a question that have ended, each with its result or its error.
        self._answers: list[tuple[Job, bytes | None, str | None]] = []
        self._replied: set[int] = set()

    def meet(self, refs: Iterable[ChannelRef]) -> None:
        """Take these channels as known."""
        self._refs.update((ref.id, ref) for ref in refs)

    def look_up(self, jobs: Iterable[Job]) -> None:
        """Read the channels of jobs that are not known yet, with one query."""
        missing = {job.channel_id for job in jobs} - self._refs.keys()
        if missing:
            self.meet(map(ref_of, Channel.objects.select_related("room").filter(pk__in=missing)))

    def rule(self, job: Job) -> WorkRule:
        """Return the rule of a job's channel, which must be known."""
        return self._refs[job.channel_id].work or WorkRule()

    # --- what happens to a job ------------------------------------------------------------------------------------------

    def claimed(self, job: Job, worker: Worker) -> None:
        """Give a ready job to ``worker``."""
        rule = self.rule(job)
        job.state = CLAIMED
        job.attempt += 1
        job.claims += 1
        job.client_id, job.principal, job.rest = worker
        job.claimed_at = self.now
        job.hold_until = self.now + timedelta(seconds=rule.hold)
        # The connection of a worker with a socket is its lease.
        job.lease_until = self._lease(job, rule) if worker.rest else job.hold_until
        job.gone_at = None
        job.last_reason = ""
        self._happened(job, "claimed")

    def renewed(self, job: Job) -> None:
        """Begin the lease of a claimed job anew."""
        if job.rest:
            job.lease_until = self._lease(job, self.rule(job))
            self._move(job)

    def _lease(self, job: Job, rule: WorkRule) -> datetime:
        until = self.now + timedelta(seconds=rule.lease)
        return min(until, job.hold_until or until)

    def done(self, job: Job, result: bytes | None) -> None:
        """End a job with its worker's result, which is raw JSON."""
        job.result = "" if result is None else result.decode()
        self._end(job, DONE, "done")
        self._happened(job, "done")
        self._answer(job, result, None)

    def returned(self, job: Job, why: str, error: str | None, *, delay: float = 0.0) -> None:
        """Take a claimed job from its worker. It is out again after ``delay`` seconds, or dead after its last attempt.

        ``why`` is ``released`` or ``expired``.
        """
        dead = job.attempt >= self.rule(job).attempts
        if error is not None or dead:
            self._failed(job, why, error or "")
        if dead:
            self._die(job, why)
            return
        by = job.client_id
        job.state, job.due_at = READY, self.now + timedelta(seconds=delay)
        job.last_reason = why
        self._free(job)
        self._happened(job, "returned", by)
        if not delay:
            self.ready[job.channel_id] = self.ready.get(job.channel_id, 0) + 1

    def unused(self, job: Job) -> None:
        """Take back a claim of which no worker ever heard. It counts as no attempt, and the job keeps its place."""
        job.state, job.last_reason = READY, "released"
        job.attempt -= 1
        self._free(job)
        self._happened(job, "returned")
        self.ready[job.channel_id] = self.ready.get(job.channel_id, 0) + 1

    def rejected(self, job: Job, error: str | None) -> None:
        """Declare a claimed job dead."""
        self._failed(job, "rejected", error or "")
        self._die(job, "rejected")

    def discarded(self, job: Job, by: str | None) -> None:
        """End a job that nobody shall do."""
        self._end(job, DISCARDED, "discarded")
        self._happened(job, "discarded", by)
        self._answer(job, None, "The job was discarded.")

    def retried(self, job: Job, by: str | None) -> None:
        """Make a job ready anew, with all of its attempts."""
        job.state, job.due_at, job.attempt = READY, self.now, 0
        job.ended_at, job.last_reason = None, "retried"
        self._happened(job, "retried", by)
        self.ready[job.channel_id] = self.ready.get(job.channel_id, 0) + 1

    def has_moved(self, keys: Iterable[int]) -> bool:
        """Return whether anything happened to one of these jobs."""
        return not self._moved.keys().isdisjoint(keys)

    def replied(self, job: Job) -> bool:
        """Return whether the end of a job, in this transaction or before, answered a question. Call :meth:`write` first."""
        return job.pk in self._replied if job.pk in self._moved else was_answered(job)

    def _die(self, job: Job, why: str) -> None:
        self._end(job, DEAD, why)
        self._happened(job, "dead")
        if self.rule(job).dead is not None:
            self._letters.append(job)
        error: dict[str, Any] = job.errors[-1] if job.errors else {}
        self._answer(job, None, error.get("error") or "Nobody could do the job.")

    def _end(self, job: Job, state: str, why: str) -> None:
        job.state, job.ended_at, job.last_reason = state, self.now, why
        self._free(job)

    def _free(self, job: Job) -> None:
        job.lease_until = job.hold_until = job.gone_at = None

    def _answer(self, job: Job, result: bytes | None, error: str | None) -> None:
        if job.asked:
            self._answers.append((job, result, error))

    def _failed(self, job: Job, why: str, error: str) -> None:
        failure = {
            "attempt": job.attempt,
            "by": job.client_id,
            # PostgreSQL stores no U+0000 in JSON.
            "error": error[:LONGEST_ERROR].replace("\x00", ""),
            "at": wire_time(self.now),
            "why": why,
        }
        job.errors = [*job.errors, failure][-REMEMBERED:]

    def _move(self, job: Job) -> None:
        self._moved[job.pk] = job
        self._written.discard(job.pk)

    def _happened(self, job: Job, what: str, by: str | None = None) -> None:
        self._move(job)
        who = by or job.client_id or None
        self.changes.append(WorkChange(job.channel_id, what, job.seq, job.attempt, who, wire_time(self.now)))

    # --- the statements -------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the jobs, their dead letters and the replies to their questions. All are announced with the commit.

        Raises ``BusError``, and ``log.Contended`` or the database's error where another transaction holds a lock.
        """
        if not self._moved:
            return
        self.write_rows()
        letters = dead_letters.letters_of_jobs(self._letters, self._refs) if self._letters else []
        replies = replies_of_jobs(self._answers) if self._answers else []
        # All logs at once: their rows are locked in one order, whatever else has them.
        entries = [entry for _, entry in [*letters, *replies]]
        if not entries:
            return
        append_batch(entries, window=config().idempotency_window, patience=self._patience)
        for job, entry in letters:
            if entry.error is not None:
                dead_letters.log_lost(job, entry.error)
        self._replied = {job.pk for job, entry in replies if entry.error is None}
        transaction.on_commit(partial(announce, [entry for entry in entries if entry.error is None]))

    def write_rows(self) -> None:
        """Write the rows of the jobs alone, so that the transaction can read what happened so far."""
        rows = [job for key, job in self._moved.items() if key not in self._written]
        self._written.update(self._moved)
        if rows:
            with connection.cursor() as wrapper, connection.wrap_database_errors:
                statements().update(wrapper.cursor, _rows(rows))


def _rows(jobs: Iterable[Job]) -> list[tuple[Any, ...]]:
    """Return what ``jobs_sql.update`` writes of jobs."""
    adapt = connection.ops.adapt_datetimefield_value
    rows = []
    for job in jobs:
        values = job.__dict__
        row = [adapt(value) if isinstance(value := values[name], datetime) else value for name in _PLACES]
        row[_ERRORS] = json.dumps(job.errors) if job.errors else "[]"
        rows.append((job.pk, *row))
    return rows


def held() -> BusError:
    """Return the error for a job, or for a channel that an operation needs, whose row another transaction holds."""
    return BusError(ErrorCode.UNAVAILABLE, "Another transaction locks this job. Try again.", retry_after=1.0)
