"""Failures in the log: whoever is told of one finds its line by the reference, under any LOGGING."""

from __future__ import annotations

import logging

import pytest

from bus.monitoring.failures import reported
from bus.protocol.errors import ErrorCode
from tests.harness.processes import PROJECT_ROOT

pytestmark = pytest.mark.pure


def test_the_text_of_the_line_has_the_reference_that_the_error_names(caplog: pytest.LogCaptureFixture) -> None:
    error = reported(
        logging.getLogger("arqonbus.test"), "it failed", detail="here", retry_after=1.0, event="test_failed"
    )
    reference = error.details[0]["reference"]
    assert (error.code, error.retry_after) == (ErrorCode.INTERNAL_ERROR, 1.0)
    (record,) = caplog.records
    assert record.getMessage() == f"it failed (reference {reference}): here"
    assert (record.event, record.reference, record.module) == (  # type: ignore[attr-defined]
        "test_failed", reference, "test_failures",
    )  # fmt: skip


def test_no_other_code_makes_the_error() -> None:
    """An INTERNAL_ERROR that is made elsewhere would have no line in the log, or one that its reference does not find."""
    made = [
        str(path.relative_to(PROJECT_ROOT))
        for folder in ("bus", "telemetry", "arqonbus_site")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        if "BusError(ErrorCode.INTERNAL_ERROR" in path.read_text()
    ]
    assert made == ["bus/monitoring/failures.py"]
