"""The batcher gathers what comes while a call runs, and gives each caller its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bus.node.batch import Batcher

pytestmark = pytest.mark.pure


class Work:
    """Answers each item with itself doubled; calls wait until they may go on."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.go_on = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[Any]:
        assert self.go_on.wait(30)
        self.calls.append(list(items))
        return [ValueError(item) if item < 0 else item * 2 for item in items]


@pytest.fixture
def work() -> Iterator[Work]:
    """The work, which is let go on at the end."""
    made = Work()
    yield made
    made.go_on.set()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """One thread."""
    with ThreadPoolExecutor(1) as made:
        yield made


async def test_items_of_a_turn_share_a_call(executor: ThreadPoolExecutor, work: Work) -> None:
    work.go_on.set()
    batcher = Batcher(executor, work)
    assert await asyncio.gather(*map(batcher.submit, (1, 2, 3))) == [2, 4, 6]
    assert await batcher.submit(4) == 8
    assert work.calls == [[1, 2, 3], [4]]


async def test_items_that_come_during_a_call_share_the_next_ones(executor: ThreadPoolExecutor, work: Work) -> None:
    batcher = Batcher(executor, work, most=2)
    first = batcher.submit(0)
    await asyncio.sleep(0)
    later = [batcher.submit(item) for item in (1, 2, 3)]
    work.go_on.set()
    assert await asyncio.gather(first, *later) == [0, 2, 4, 6]
    assert work.calls == [[0], [1, 2], [3]]


async def test_an_exception_is_its_own_callers(executor: ThreadPoolExecutor, work: Work) -> None:
    work.go_on.set()
    batcher = Batcher(executor, work)
    answers = await asyncio.gather(*map(batcher.submit, (1, -2, 3)), return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (2, ValueError, 6)


async def test_an_item_whose_caller_has_gone_is_left_out(executor: ThreadPoolExecutor, work: Work) -> None:
    batcher = Batcher(executor, work)
    first = batcher.submit(0)
    await asyncio.sleep(0)
    gone, stays = batcher.submit(1), batcher.submit(2)
    gone.cancel()
    work.go_on.set()
    assert (await first, await stays) == (0, 4)
    assert work.calls == [[0], [2]]


async def test_a_failed_call_fails_all_its_items_and_no_others(executor: ThreadPoolExecutor) -> None:
    failures = [OSError("gone")]

    def fails_once(items: Sequence[int]) -> list[Any]:
        if failures:
            raise failures.pop()
        return list(items)

    batcher = Batcher(executor, fails_once)
    answers = await asyncio.gather(*map(batcher.submit, (1, 2)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [OSError, OSError]
    assert await batcher.submit(3) == 3


async def test_an_answer_that_comes_too_late_for_its_caller_is_not_lost(
    executor: ThreadPoolExecutor, work: Work
) -> None:
    late: list[tuple[int, Any]] = []

    class Noting(Batcher[int]):
        def unheard(self, item: int, answer: Any) -> None:
            late.append((item, answer))

    batcher = Noting(executor, work)
    gone, stays = batcher.submit(1), batcher.submit(2)
    await asyncio.sleep(0)
    gone.cancel()
    work.go_on.set()
    assert await stays == 4
    assert late == [(1, 2)]
