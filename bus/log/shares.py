"""Whose messages wait for the log: while many do, who has most of them is told BUSY first, and others still get theirs in."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ..protocol.limits import holder_of
from .entry import Entry, size_of

#: Whoever has no more than this part of what may wait is taken in beyond the limit, up to twice of it.
SMALL = 20

# An anonymous sender stands for its network; the look-up of an address that was met before costs nothing.
_holder = lru_cache(maxsize=4096)(holder_of)


class Shares:
    """The messages and bytes that wait, by who sent them. They are only counted while the queue is half full."""

    def __init__(self, limit: int, most_bytes: int) -> None:
        self._limit = limit
        self._most_bytes = most_bytes
        self._of: dict[str, list[int]] | None = None

    def forget(self) -> None:
        """The queue is short again, or was put together anew."""
        self._of = None

    @property
    def counting(self) -> bool:
        """Whether entries that come and go have to be told."""
        return self._of is not None

    def came(self, entry: Entry) -> None:
        """One more waits."""
        if self._of is not None:
            _add(self._of, entry, 1)

    def went(self, entry: Entry) -> None:
        """One less."""
        if self._of is not None:
            _add(self._of, entry, -1)

    def refuses(self, entry: Entry, waiting: Iterable[Entry], count: int, size: int) -> bool:
        """Whether ``entry`` has no place behind the ``count`` entries of ``size`` bytes that wait."""
        if self._of is None:
            self._of = {}
            for other in waiting:
                _add(self._of, other, 1)
        limit, most = self._limit, self._most_bytes
        own_count, own_size = self._of.get(_holder(entry.owner), (0, 0))
        if count >= limit or size >= most:
            small = own_count * SMALL <= limit and own_size * SMALL <= most
            return not small or count >= 2 * limit or size >= 2 * most
        # There is room. Half of it is kept for the others as soon as there are some.
        return len(self._of) > 1 and (own_count * 2 >= limit or own_size * 2 >= most)


def _add(shares: dict[str, list[int]], entry: Entry, sign: int) -> None:
    key = _holder(entry.owner)
    share = shares.setdefault(key, [0, 0])
    share[0] += sign
    share[1] += sign * size_of(entry)
    if share[0] <= 0:
        del shares[key]
