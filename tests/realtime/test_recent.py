"""Recent messages: consecutive, up to the head, and within the budget, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.realtime.frame import LoggedFrame
from bus.realtime.recent import RecentBudget, RecentMessages

pytestmark = pytest.mark.pure

MESSAGES, SIZE, TOTAL = 5, 100, 250

#: A log out of four, and how large its next message is: small ones, and some above what a log may keep.
puts = st.tuples(st.integers(0, 3), st.one_of(st.integers(1, 40), st.integers(90, 300)))


def filled(*steps: tuple[int, int]) -> tuple[RecentBudget, list[RecentMessages], list[list[LoggedFrame]]]:
    """Four logs after the steps (which log, bytes of the message): the budget, what it keeps of each, and the whole logs."""
    budget = RecentBudget(messages=MESSAGES, size=SIZE, total=TOTAL)
    kept, logs = [RecentMessages() for _ in range(4)], [list[LoggedFrame]() for _ in range(4)]
    for which, length in steps:
        row = LoggedFrame(len(logs[which]) + 1, bytes([which]) * length)
        logs[which].append(row)
        budget.put(kept[which], *row)
    return budget, kept, logs


def rows_of(recent: RecentMessages) -> list[LoggedFrame]:
    """All that is remembered of a log."""
    return recent.after(recent.first - 1) or [] if recent.first is not None else []


@given(st.lists(puts, max_size=60))
def test_what_is_remembered_is_the_end_of_each_log_and_within_the_budget(steps: list[tuple[int, int]]) -> None:
    budget, kept, logs = filled(*steps)
    assert budget.used == sum(len(frame) for recent in kept for _, frame in rows_of(recent)) <= TOTAL
    for recent, log in zip(kept, logs, strict=True):
        rows = rows_of(recent)
        assert rows == log[len(log) - len(rows) :]
        assert len(rows) <= MESSAGES
        assert recent.size <= SIZE or len(rows) == 1


@given(st.lists(puts, max_size=60), st.integers(0, 60))
def test_what_came_after_a_position_is_told_whole_or_not_at_all(steps: list[tuple[int, int]], position: int) -> None:
    _, kept, logs = filled(*steps)
    for recent, log in zip(kept, logs, strict=True):
        told = recent.after(position)
        assert told is None or told == log[position:]
        reaches_back = recent.first is not None and recent.first <= position + 1
        assert (told is not None) == reaches_back == recent.reaches(position)
        if told is not None:
            assert recent.frames_after(position) == [frame for _, frame in told]


@given(st.lists(puts, max_size=60), st.integers(0, 3), st.integers(0, 20), st.integers(0, 20))
def test_rows_read_by_somebody_are_added_where_they_fit_and_only_there(
    steps: list[tuple[int, int]], which: int, start: int, count: int
) -> None:
    budget, kept, logs = filled(*steps)
    log, recent = logs[which], kept[which]
    before = rows_of(recent)
    budget.prime(recent, len(log), log[start : start + count])
    rows = rows_of(recent)
    assert rows == log[len(log) - len(rows) :]
    assert rows[len(rows) - len(before) :] == before
    assert len(rows) <= max(MESSAGES, len(before))
    assert budget.used == sum(recent.size for recent in kept) <= TOTAL


def test_when_the_budget_is_spent_each_log_forgets_its_older_half() -> None:
    budget, kept, _ = filled(*[(which, 20) for which in (0, 1, 2) for _ in range(4)])
    assert [len(recent) for recent in kept] == [4, 4, 4, 0]
    budget.put(kept[3], 1, b"x" * 20)
    assert [len(recent) for recent in kept] == [2, 2, 2, 0], "one message has no half: it goes"
    assert budget.used == 120


def test_a_log_that_is_forgotten_gives_its_budget_back() -> None:
    budget, kept, _ = filled((0, 30), (1, 40))
    budget.forget(kept[0])
    assert budget.used == 40
    assert kept[0].after(0) is None
    budget.put(kept[0], 7, b"again")
    assert kept[0].after(6) == [(7, b"again")]
