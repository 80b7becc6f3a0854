"""Shares of the log's queue: the owner of the most waiting messages gets BUSY first, and other owners can still publish."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ..protocol.limits import holder_of
from .entry import Entry, size_of

#: An owner with at most this part of the limit (one twentieth) may exceed the limit, up to twice its value.
SMALL = 20

# An anonymous sender counts by its network. The cache answers for known addresses at no cost.
_holder = lru_cache(maxsize=4096)(holder_of)


class Shares:
    """The number and the bytes of waiting messages by owner. They are only counted while the queue is at least half full."""

    def __init__(self, limit: int, most_bytes: int) -> None:
        self._limit = limit
        self._most_bytes = most_bytes
        self._of: dict[str, list[int]] | None = None

    def forget(self) -> None:
        """Stop counting, because the queue is short again or was rebuilt."""
        self._of = None

    @property
    def counting(self) -> bool:
        """Return whether calls of :meth:`came` and :meth:`went` are needed."""
        return self._of is not None

    def came(self, entry: Entry) -> None:
        """Count an entry that was queued."""
        if self._of is not None:
            _add(self._of, entry, 1)

    def went(self, entry: Entry) -> None:
        """Count an entry that left the queue."""
        if self._of is not None:
            _add(self._of, entry, -1)

    def refuses(self, entry: Entry, waiting: Iterable[Entry], count: int, size: int) -> bool:
        """Return whether ``entry`` has no place behind the ``count`` waiting entries of ``size`` bytes."""
        if self._of is None:
            self._of = {}
            for other in waiting:
                _add(self._of, other, 1)
        limit, most = self._limit, self._most_bytes
        own_count, own_size = self._of.get(_holder(entry.owner), (0, 0))
        if count >= limit or size >= most:
            small = own_count * SMALL <= limit and own_size * SMALL <= most
            return not small or count >= 2 * limit or size >= 2 * most
        # There is room. Once several owners wait, each may use at most half of it.
        return len(self._of) > 1 and (own_count * 2 >= limit or own_size * 2 >= most)


def _add(shares: dict[str, list[int]], entry: Entry, sign: int) -> None:
    key = _holder(entry.owner)
    share = shares.setdefault(key, [0, 0])
    share[0] += sign
    share[1] += sign * size_of(entry)
    if share[0] <= 0:
        del shares[key]
