"""A self-test runs once, and its failure is one line in the log."""

from __future__ import annotations

import logging

import pytest

from bus.servers.selftest import passed

pytestmark = pytest.mark.pure


@pytest.mark.parametrize("raised", [False, True])
def test_a_failed_self_test_is_said_once_and_answered_with_no(caplog: pytest.LogCaptureFixture, raised: bool) -> None:
    def fault() -> str:
        if raised:
            raise AttributeError("the buffer has another name")
        return "the buffer has another name"

    with caplog.at_level(logging.WARNING, logger="arqonbus.realtime"):
        assert [passed(("daphne", "autobahn"), "received frames", fault) for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    line = caplog.records[0].getMessage()
    assert "the buffer has another name" in line
    assert "daphne " in line
    assert "autobahn " in line
