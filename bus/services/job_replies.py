"""The replies to questions that were asked with jobs: a job's result, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q

from ..auth.permissions import SYSTEM
from ..directory.channels import ensure
from ..directory.questions import as_asked
from ..log import Entry
from ..log.question_batch import ANSWERED, OPEN
from ..models import Job, Question
from ..protocol.asking import REPLY, result_payload
from ..protocol.inbound import KIND_REPLY, Inbound, Reply
from ..protocol.names import SERVER, inbox
from ..publishing.entry import entries, random_uid

#: A job that ended, its result (raw JSON), and why there is no result. One of the two is None.
Ended = tuple[Job, bytes | None, str | None]


def replies_of_jobs(ended: Sequence[Ended]) -> list[tuple[Job, Entry]]:
    """Return the entries that answer the questions of jobs, for the transaction of the jobs' ends.

    A reply comes from the worker, or from the server where there was none. A job without an open question has no entry.
    """
    wanted = Q(pk__in=[])
    for job, _, _ in ended:
        wanted |= Q(channel_id=job.channel_id, seq=job.seq)
    rows = {(row.channel_id, row.seq): row for row in Question.objects.filter(wanted, state=OPEN)}
    made: list[tuple[Job, Entry]] = []
    for job, result, error in ended:
        row = rows.get((job.channel_id, job.seq))
        if row is not None:
            made.append((job, _reply(row, job.client_id or SERVER, result, error)))
    return made


def was_answered(job: Job) -> bool:
    """Return whether the end of a job was the reply to its question, and not too late for it."""
    answered = Question.objects.filter(channel_id=job.channel_id, seq=job.seq, state=ANSWERED)
    return job.asked and answered.exists()


def _reply(row: Question, sender: str, result: bytes | None, error: str | None) -> Entry:
    inbound = Inbound(kind=KIND_REPLY, type=REPLY, reply=Reply(row.uid, error=error), asked=as_asked(row))
    if error is None:
        inbound.payload = result_payload(result)
    ref, _ = ensure(inbox(row.client_id), SYSTEM)
    return entries(inbound, [ref], sender, random_uid, connected=False)[0]
