"""When a job is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.publishing.jobs import due_at

pytestmark = pytest.mark.pure

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def due(text: str | None) -> datetime:
    return due_at(Inbound(KIND_PUBLISH, "event", deliver_at=text), NOW)


def test_a_job_is_due_at_its_time_and_never_in_the_past() -> None:
    assert due(None) == NOW
    assert due("2026-01-01T01:00:00+01:00") == NOW
    assert due("1999-01-01T00:00:00Z") == NOW
    assert due("0001-01-01T00:00:00+14:00") == NOW
    later = due("2026-01-02T02:00:00+02:00")
    assert (later, later.tzinfo) == (NOW + timedelta(days=1), UTC)


@pytest.mark.parametrize(
    "text", ["", "5", "soon", "2026-01-01T00:00:00", "2027-01-02T00:00:01Z", "9999-12-31T23:59:59-14:00"]
)
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(BusError) as refused:
        due(text)
    assert refused.value.code == ErrorCode.VALIDATION_ERROR
    assert refused.value.details[0]["field"] == "deliver_at"
