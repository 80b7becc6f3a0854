"""What a process remembers of its logs: consecutive messages up to the head, within the budget, whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.realtime.recent import Memory, Recent, Row

pytestmark = pytest.mark.pure

MESSAGES, SIZE, TOTAL = 5, 100, 250

#: A log out of four, and how large its next message is: small ones, and some above what a log may keep.
puts = st.tuples(st.integers(0, 3), st.one_of(st.integers(1, 40), st.integers(90, 300)))


def filled(*steps: tuple[int, int]) -> tuple[Memory, list[Recent], list[list[Row]]]:
    """Four logs after the steps (which log, bytes of the message): the memory, what it keeps of each, and the whole logs."""
    memory = Memory(messages=MESSAGES, size=SIZE, total=TOTAL)
    kept, logs = [Recent() for _ in range(4)], [list[Row]() for _ in range(4)]
    for which, length in steps:
        row = (len(logs[which]) + 1, bytes([which]) * length)
        logs[which].append(row)
        memory.put(kept[which], *row)
    return memory, kept, logs


def rows_of(recent: Recent) -> list[Row]:
    """All that is remembered of a log."""
    return recent.after(recent.first - 1) or [] if recent.first is not None else []


@given(st.lists(puts, max_size=60))
def test_what_is_remembered_is_the_end_of_each_log_and_within_the_budget(steps: list[tuple[int, int]]) -> None:
    memory, kept, logs = filled(*steps)
    assert memory.used == sum(len(frame) for recent in kept for _, frame in rows_of(recent)) <= TOTAL
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
        assert (told is not None) == reaches_back


@given(st.lists(puts, max_size=60), st.integers(0, 3), st.integers(0, 20), st.integers(0, 20))
def test_rows_read_by_somebody_are_added_where_they_fit_and_only_there(
    steps: list[tuple[int, int]], which: int, start: int, count: int
) -> None:
    memory, kept, logs = filled(*steps)
    log, recent = logs[which], kept[which]
    before = rows_of(recent)
    memory.prime(recent, len(log), log[start : start + count])
    rows = rows_of(recent)
    assert rows == log[len(log) - len(rows) :]
    assert rows[len(rows) - len(before) :] == before
    assert len(rows) <= max(MESSAGES, len(before))
    assert memory.used == sum(recent.size for recent in kept) <= TOTAL


def test_when_the_budget_is_spent_each_log_forgets_its_older_half() -> None:
    memory, kept, _ = filled(*[(which, 20) for which in (0, 1, 2) for _ in range(4)])
    assert [len(recent) for recent in kept] == [4, 4, 4, 0]
    memory.put(kept[3], 1, b"x" * 20)
    assert [len(recent) for recent in kept] == [2, 2, 2, 0], "one message has no half: it goes"
    assert memory.used == 120


def test_a_log_that_is_forgotten_gives_its_memory_back() -> None:
    memory, kept, _ = filled((0, 30), (1, 40))
    memory.forget(kept[0])
    assert memory.used == 40
    assert kept[0].after(0) is None
    memory.put(kept[0], 7, b"again")
    assert kept[0].after(6) == [(7, b"again")]
