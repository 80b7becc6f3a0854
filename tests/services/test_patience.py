"""How long a group waits for the locks of others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from django.db import DataError

from bus.log import Contended
from bus.services.patience import Patience, in_pieces


class Clock:
    """A clock that stands, but for the transactions that wait for a lock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.transactions = 0

    def __call__(self) -> float:
        return self.now

    def write(self, items: Sequence[int], seconds: float) -> list[int]:
        """Write items, of which the negative ones need a lock that is never free, and 0 cannot be."""
        self.transactions += 1
        if any(item < 0 for item in items):
            self.now += seconds
            raise Contended
        if 0 in items:
            raise DataError
        return [item * 2 for item in items]


def test_a_group_waits_once_and_the_rest_is_carried_out() -> None:
    clock = Clock()
    pieces = in_pieces([1, -1, 2, 3, -2, 4], clock.write, Patience(0.25, 0.5, clock=clock))
    assert [(list(some), done) for some, done in pieces if done is None] == [([-1], None), ([-2], None)]
    assert [one for _, done in pieces for one in done or ()] == [2, 4, 6, 8]
    assert [item for some, _ in pieces for item in some] == [1, -1, 2, 3, -2, 4]
    assert clock.now < 0.26


def test_a_whole_group_that_needs_a_lock_ends_in_time() -> None:
    clock = Clock()
    pieces = in_pieces([-1] * 10_000 + [1], clock.write, Patience(0.25, 0.5, clock=clock))
    assert sum(len(some) for some, _ in pieces) == 10_001
    # What needs no lock and is found in time is carried out; after the end, each remaining half fails as a whole.
    assert 0.75 < clock.now < 0.8
    assert clock.transactions < 1000


def test_only_the_fault_of_a_single_item_is_raised() -> None:
    clock = Clock()
    with pytest.raises(DataError):
        in_pieces([1, 0, 2], clock.write, Patience(0.25, 0.5, clock=clock))
    assert in_pieces([], clock.write, Patience(0.25, 0.5, clock=clock)) == [([], [])]
