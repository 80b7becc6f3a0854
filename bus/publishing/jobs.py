"""When the job of a message is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from ..protocol.values import moment_of

#: How far ahead a job may be due.
LONGEST_DELAY = timedelta(days=366)


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
