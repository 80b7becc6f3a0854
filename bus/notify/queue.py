"""The queue of what waits for the channel layer: in order, in batches, with its size."""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class _Waiting(NamedTuple, Generic[Item]):
    group: str
    item: Item
    size: int


class Batch(NamedTuple, Generic[Item]):
    """Items of one group that are sent together."""

    group: str
    items: list[Item]


class SendQueue(Generic[Item]):
    """Items for groups, and the bytes that they take.

    The queue is ``full`` once ``limit`` bytes wait; the caller decides what to do with the next item then. A batch is for one
    group, of ``batch_items`` items and ``batch_bytes`` bytes at most. Only a single item may be larger.
    """

    def __init__(self, limit: int, batch_bytes: int, *, batch_items: int = 100) -> None:
        self._limit = limit
        self._batch_bytes = batch_bytes
        self._batch_items = batch_items
        self._waiting: deque[_Waiting[Item]] = deque()
        #: Bytes that wait.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return self.bytes >= self._limit

    def put(self, group: str, item: Item, size: int) -> None:
        """Add an item of ``size`` bytes."""
        self._waiting.append(_Waiting(group, item, size))
        self.bytes += size

    def next_batch(self) -> Batch[Item]:
        """Remove the first item, and those right after it that can go with it. Raises ``IndexError`` when the queue is empty."""
        waiting = self._waiting
        first = waiting.popleft()
        items, size = [first.item], first.size
        while (
            waiting
            and waiting[0].group == first.group
            and len(items) < self._batch_items
            and size + waiting[0].size <= self._batch_bytes
        ):
            following = waiting.popleft()
            items.append(following.item)
            size += following.size
        self.bytes -= size
        return Batch(first.group, items)

    def clear(self) -> list[Item]:
        """Remove everything; returns the items."""
        items = [waiting.item for waiting in self._waiting]
        self._waiting.clear()
        self.bytes = 0
        return items
