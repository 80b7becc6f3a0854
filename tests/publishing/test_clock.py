"""The time in a message is what the slow way writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.models import wire_time
from bus.publishing.clock import WireClock

pytestmark = pytest.mark.pure

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.lists(st.integers(0, 4_102_444_800_000_000), min_size=1, max_size=5), st.integers(0, 2_000_000))
def test_each_moment_is_written_as_everywhere_else(moments: list[int], more: int) -> None:
    """Also when the next one is in the same second, in the next, or earlier."""
    steps = [moment for each in moments for moment in (each, each + more)]
    left = iter(steps)
    clock = WireClock(lambda: next(left) * 1000)
    for moment in steps:
        assert clock.stamp().decode() == wire_time(EPOCH + timedelta(microseconds=moment))
