"""What waits to be sent to the other processes, in order, with its size."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """Items for groups, and how many bytes they are.

    It is ``full`` once ``limit`` bytes wait; what to do with the next item then is the caller's decision. What is taken
    together is for one group and of ``together`` bytes at most, unless a single item is larger.
    """

    def __init__(self, limit: int, together: int, *, most: int = 100) -> None:
        self._limit = limit
        self._together = together
        self._most = most
        self._items: deque[tuple[str, Item, int]] = deque()
        #: Bytes that wait.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self.bytes >= self._limit

    def put(self, group: str, item: Item, size: int) -> None:
        """Add an item of ``size`` bytes."""
        self._items.append((group, item, size))
        self.bytes += size

    def take(self) -> tuple[str, list[Item]]:
        """The first item, and those right after it that can go with it. Raises ``IndexError`` when there is none."""
        items = self._items
        group, item, size = items.popleft()
        taken = [item]
        while items and items[0][0] == group and len(taken) < self._most and size + items[0][2] <= self._together:
            _, item, more = items.popleft()
            taken.append(item)
            size += more
        self.bytes -= size
        return group, taken

    def clear(self) -> list[Item]:
        """Give everything up; what it was."""
        given_up = [item for _, item, _ in self._items]
        self._items.clear()
        self.bytes = 0
        return given_up
