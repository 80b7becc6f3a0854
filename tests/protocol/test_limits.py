"""Token buckets and nesting, with the time passed in."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.protocol.limits import TokenBucket, holder_of, is_of_this_machine, nesting_within

pytestmark = pytest.mark.pure


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10.0, burst=3.0, now=100.0)
    assert [bucket.take(1.0, 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take(1.0, 100.0) == pytest.approx(0.1)
    assert bucket.take(1.0, 100.05) == pytest.approx(0.05)
    assert bucket.take(1.0, 100.11) == 0.0


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=10.0, burst=3.0, now=0.0)
    assert [bucket.take(1.0, 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(0.1)]


def test_a_rate_of_zero_is_no_limit() -> None:
    bucket = TokenBucket(rate=0.0, burst=0.0, now=0.0)
    assert bucket.take(1e9, 0.0) == 0.0


@given(
    st.floats(0.1, 1000),
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 5)), max_size=50),
)
def test_nobody_gets_more_than_burst_and_rate_allow(
    rate: float, burst: float, takes: list[tuple[float, float]]
) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now = taken = 0.0
    for pause, amount in takes:
        now += pause
        if bucket.take(amount, now) == 0.0:
            taken += amount
        assert taken <= burst + rate * now + 1e-6


@pytest.mark.parametrize(
    ("text", "limit", "fits"),
    [
        (b"{}", 1, True),
        (b'{"a":[1]}', 2, True),
        (b'{"a":[1]}', 1, False),
        (b"[[[]]]", 3, True),
        (b"[[[]]]", 2, False),
        (b"[[],[],[]]", 2, True),
        (b'{"a":"[[[[[[","b":[]}', 2, True),
        (b'{"a":"\\"[[[[[[","b":[]}', 2, True),
        (b'{"a":"\\\\","b":[[[]]]}', 3, False),
        (b"[" * 200_000, 32, False),
        (b'{"a":' * 100_000, 32, False),
    ],
)
def test_nesting_is_counted_outside_of_strings(text: bytes, limit: int, fits: bool) -> None:
    assert nesting_within(text, limit) is fits


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('[]{}"\\ab'), max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('[{"\\a'), max_size=5), inner, max_size=3)
    ),
    max_leaves=30,
)


@given(JSON, st.integers(1, 8))
def test_nesting_is_the_depth_of_the_value(value: object, limit: int) -> None:
    assert nesting_within(json.dumps(value).encode(), limit) is (_depth(value) <= limit)


@pytest.mark.parametrize(
    ("address", "holder"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("unix:/run/bus.sock", "unix:/run/bus.sock"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one_holder_and_everything_else_as_itself(address: str, holder: str) -> None:
    assert holder_of(address) == holder


@pytest.mark.timeout(30)
@pytest.mark.parametrize("end", [b"", b"\\", b'"', b'"]]'])
def test_a_string_of_nothing_but_quotes_is_looked_through_once(end: bytes) -> None:
    # From each quote on anew, a megabyte would take an hour.
    brackets = b"[" + b"[]," * 40
    assert nesting_within(brackets + b'"' + b'\\"' * 500_000 + end, 32)
    assert not nesting_within(b"[" * 33 + b'"' + b'\\"' * 500_000 + end, 32)


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1", True), ("::1", True), ("", True), ("10.0.0.1", False), ("2001:db8::1", False), ("nonsense", False)],
)
def test_an_address_of_this_machine_is_a_loopback_one_or_none(address: str, here: bool) -> None:
    assert is_of_this_machine(address) is here
