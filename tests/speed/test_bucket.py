"""The compiled bucket and the one in Python are the same, to the last bit of every level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus._speed import core
from bus.protocol.limits import TokenBucketInPython

pytestmark = [pytest.mark.pure, pytest.mark.skipif(core is None, reason="the extension was not built")]

times = st.floats(0, 1e6)
amounts = st.floats(0, 1e4) | st.integers(0, 10_000)


@given(st.floats(-1, 1e6) | st.just(0), st.floats(0, 1e6), times, st.lists(st.tuples(st.booleans(), amounts, times)))
def test_both_buckets_give_the_same_answers_and_keep_the_same_levels(
    rate: float, burst: float, now: float, calls: list[tuple[bool, float, float]]
) -> None:
    assert core is not None
    both = [kind(rate, burst, now) for kind in (TokenBucketInPython, core.TokenBucket)]
    for owes, amount, pause in calls:
        now += pause
        answers = [bucket.owe(amount) if owes else bucket.take(amount, now) for bucket in both]
        assert answers[0] == answers[1]
        states = [(bucket.rate, bucket.burst, bucket.level, bucket.updated) for bucket in both]
        assert states[0] == states[1]


def test_what_is_no_number_is_refused() -> None:
    assert core is not None
    bucket = core.TokenBucket(1.0, 1.0, 0.0)
    for wrong in (("x", 1.0), (1.0, None), (1.0,)):
        with pytest.raises(TypeError):
            bucket.take(*wrong)
    with pytest.raises(TypeError):
        bucket.owe("x")
    with pytest.raises(TypeError):
        core.TokenBucket(1.0, 1.0)
