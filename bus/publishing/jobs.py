"""Jobs on the way of every message: a message to a work channel becomes one, and the workers are told."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from ..log import Entry
from ..log.effects import Effect
from ..log.job_effects import NewJob
from ..log.question_effects import Asking
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from ..protocol.values import moment_of

#: How far ahead a job may be due.
LONGEST_DELAY = timedelta(days=366)


def job_of(inbound: Inbound, effect: Effect | None) -> NewJob:
    """Return the job that a message to a work channel becomes. ``effect`` is what the message does besides: it may ask.

    Raises ``BusError`` VALIDATION_ERROR for a streamed message, or for a wrong ``deliver_at``.
    """
    if effect is not None and not isinstance(effect, Asking):
        field = "steer" if inbound.steer is not None else "stream"
        message = "A message of a work channel is a job. It cannot grow, and it steers nothing."
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message}])
    # Without a time, the clock of the database decides when the job is due.
    due = None if inbound.deliver_at is None else due_at(inbound, timezone.now())
    return NewJob(due, effect)


def ready_jobs(entries: Iterable[Entry]) -> dict[int, int]:
    """How many jobs of each channel became ready with the commit of ``entries``."""
    ready: dict[int, int] = {}
    for entry in entries:
        effect = entry.effect
        if not isinstance(effect, NewJob) or entry.seq is None or entry.error is not None or entry.duplicate:
            continue
        if effect.due_at is None or effect.due_at <= timezone.now():
            ready[entry.channel_id] = ready.get(entry.channel_id, 0) + 1
    return ready


def due_at(inbound: Inbound, now: datetime) -> datetime:
    """Return when the job of a message is due: at its ``deliver_at``, or ``now`` without one and for a past time.

    Raises ``BusError`` VALIDATION_ERROR for a ``deliver_at`` that is no time with a zone, or too far ahead.
    """
    if inbound.deliver_at is None:
        return now
    moment = moment_of(inbound.deliver_at)
    if moment is None:
        raise _refusal("`deliver_at` must be an ISO 8601 time with a zone, such as 2026-01-01T00:00:00Z.")
    if moment - now > LONGEST_DELAY:
        raise _refusal(f"`deliver_at` may be at most {LONGEST_DELAY.days} days ahead.")
    return max(moment, now).astimezone(UTC)


def _refusal(message: str) -> BusError:
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "deliver_at", "message": message}])
