"""The queue of what waits for the layer: order, size, batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.notify.queue import SendQueue

pytestmark = pytest.mark.pure

PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=60)


def filled(
    puts: list[tuple[str, int]], *, limit: int = 10_000, batch_bytes: int = 100, batch_items: int = 5
) -> SendQueue[int]:
    made: SendQueue[int] = SendQueue(limit, batch_bytes, batch_items=batch_items)
    for number, (group, size) in enumerate(puts):
        made.put(group, number, size)
    return made


@given(PUTS)
def test_everything_leaves_in_its_order_in_batches_of_one_group_within_the_bounds(puts: list[tuple[str, int]]) -> None:
    queue = filled(puts)
    sent: list[int] = []
    while queue:
        batch = queue.next_batch()
        assert {puts[number][0] for number in batch.items} == {batch.group}
        assert len(batch.items) <= 5
        assert len(batch.items) == 1 or sum(puts[number][1] for number in batch.items) <= 100
        sent += batch.items
        assert queue.bytes == sum(size for _, size in puts[len(sent) :])
    assert sent == list(range(len(puts)))


@given(PUTS, st.integers(1, 500))
def test_it_is_full_from_its_limit_on(puts: list[tuple[str, int]], limit: int) -> None:
    queue = filled(puts, limit=limit)
    assert queue.full == (sum(size for _, size in puts) >= limit)
    assert queue.clear() == list(range(len(puts)))
    assert (len(queue), queue.bytes, queue.full) == (0, 0, False)


def test_a_single_item_may_be_larger_than_a_batch() -> None:
    queue = filled([("a", 500), ("a", 1)])
    assert queue.next_batch().items == [0]
    assert queue.next_batch().items == [1]


def test_an_empty_queue_has_no_batch() -> None:
    with pytest.raises(IndexError):
        filled([]).next_batch()
