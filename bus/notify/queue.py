"""The queue of what waits to be sent: in order, in batches, with its size."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class _Waiting(NamedTuple, Generic[Item]):
    topic: str
    item: Item
    size: int


class Batch(NamedTuple, Generic[Item]):
    """Items of one topic that are sent together."""

    topic: str
    items: list[Item]


class SendQueue(Generic[Item]):
    """Items for topics, and the bytes that they take.

    The queue is ``full`` once ``limit`` bytes wait; the caller decides what to do with the next item then. A batch is for one
    topic, of ``batch_items`` items and ``batch_bytes`` bytes at most. Only a single item may be larger.
    """

    def __init__(self, limit: int, batch_bytes: int, *, batch_items: int = 100, together: int = 100) -> None:
        self._limit = limit
        self._batch_bytes = batch_bytes
        self._batch_items = batch_items
        self._together = together
        self._waiting: deque[_Waiting[Item]] = deque()
        #: Bytes that wait.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.bytes >= self._limit

    def put(self, topic: str, item: Item, size: int) -> None:
        """Add an item of ``size`` bytes."""
        self._waiting.append(_Waiting(topic, item, size))
        self.bytes += size

    def next_batches(self) -> list[Batch[Item]]:
        """Remove the first items. Those of one topic go together, and their order stays.

        There are so many batches as may go together, and as fit into four full ones, but at least one.
        """
        batches: list[Batch[Item]] = []
        # The last batch of each topic, with its bytes.
        last: dict[str, tuple[Batch[Item], int]] = {}
        left = 4 * self._batch_bytes
        waiting = self._waiting
        while waiting:
            topic, item, size = waiting[0]
            if batches and size > left:
                break
            batch, taken = last.get(topic, (None, 0))
            if batch is None or len(batch.items) >= self._batch_items or taken + size > self._batch_bytes:
                if len(batches) >= self._together:
                    break
                batch, taken = Batch(topic, []), 0
                batches.append(batch)
            waiting.popleft()
            batch.items.append(item)
            last[topic] = batch, taken + size
            left -= size
            self.bytes -= size
        return batches

    def clear(self) -> list[Item]:
        """Remove everything; returns the items."""
        items = [waiting.item for waiting in self._waiting]
        self._waiting.clear()
        self.bytes = 0
        return items
