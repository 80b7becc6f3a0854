"""The queue of what waits for the layer: order, size, batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.notify.queue import Batch, SendQueue

pytestmark = pytest.mark.pure

PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60)), max_size=60)


def filled(
    puts: list[tuple[str, int]], *, limit: int = 10_000, batch_bytes: int = 100, batch_items: int = 5
) -> SendQueue[int]:
    made: SendQueue[int] = SendQueue(limit, batch_bytes, batch_items=batch_items, together=3)
    for number, (topic, size) in enumerate(puts):
        made.put(topic, number, size)
    return made


@given(PUTS)
def test_everything_leaves_in_batches_of_one_topic_within_the_bounds_and_in_the_order_of_its_topic(
    puts: list[tuple[str, int]],
) -> None:
    queue = filled(puts)
    sent: list[int] = []
    while queue:
        together = queue.next_batches()
        assert 1 <= len(together) <= 3
        for batch in together:
            assert {puts[number][0] for number in batch.items} == {batch.topic}
            assert len(batch.items) <= 5
            assert len(batch.items) == 1 or sum(puts[number][1] for number in batch.items) <= 100
            sent += batch.items
        assert len(together) == 1 or sum(puts[number][1] for batch in together for number in batch.items) <= 400
        assert queue.bytes == sum(size for number, (_, size) in enumerate(puts) if number not in sent)
    assert sorted(sent) == list(range(len(puts)))
    for topic in "abc":
        of_topic = [number for number in sent if puts[number][0] == topic]
        assert of_topic == sorted(of_topic)


@given(PUTS, st.integers(1, 500))
def test_it_is_full_from_its_limit_on(puts: list[tuple[str, int]], limit: int) -> None:
    queue = filled(puts, limit=limit)
    assert queue.full == (sum(size for _, size in puts) >= limit)
    assert queue.clear() == list(range(len(puts)))
    assert (len(queue), queue.bytes, queue.full) == (0, 0, False)


def test_a_single_item_may_be_larger_than_a_batch() -> None:
    queue = filled([("a", 500), ("a", 1)])
    assert [batch.items for batch in queue.next_batches()] == [[0]]
    assert [batch.items for batch in queue.next_batches()] == [[1]]


def test_items_of_topics_that_take_turns_leave_together() -> None:
    queue = filled([("a", 1), ("b", 1), ("a", 1), ("b", 1)])
    assert queue.next_batches() == [Batch("a", [0, 2]), Batch("b", [1, 3])]


def test_an_empty_queue_has_no_batch() -> None:
    assert filled([]).next_batches() == []
