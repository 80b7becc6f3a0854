"""Entries of channels whose rows another transaction has locked. They wait in their order, apart from all other entries."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from .entry import Entry, size_of
from .shares import Shares

logger = logging.getLogger("arqonbus.log")


class Held:
    """Waiting entries by channel.

    A channel is in it from the first batch that meets its locked row until its first entries are written. A channel
    without entries may stay: it costs almost nothing, and the next batch need not wait for its lock again. Only the event
    loop uses it.
    """

    def __init__(self, limit: int, most_bytes: int) -> None:
        self._limit, self._most_bytes = limit, most_bytes
        self._shares = Shares(limit, most_bytes)
        self._waiting: dict[int, deque[Entry]] = {}
        self._said: set[int] = set()
        self._count = 0
        #: Bytes of all waiting entries.
        self.bytes = 0

    def __contains__(self, channel_id: int) -> bool:
        return channel_id in self._waiting

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __len__(self) -> int:
        return self._count

    def refuses(self, entry: Entry) -> bool:
        """Return whether so many entries wait that ``entry`` has to be refused (:class:`Shares`)."""
        if self._count * 2 < self._limit and self.bytes * 2 < self._most_bytes:
            return False
        waiting = (other for entries in self._waiting.values() for other in entries)
        return self._shares.refuses(entry, waiting, self._count, self.bytes)

    def add(self, entry: Entry) -> None:
        """Queue the entry behind those that wait for its channel."""
        self._waiting.setdefault(entry.channel_id, deque()).append(entry)
        self._moved(1, [entry])

    def put_back(self, channel_id: int, entries: Sequence[Entry]) -> None:
        """Queue entries again before newer ones of their channel. The other channels are tried first."""
        waiting = self._waiting.pop(channel_id)
        waiting.extendleft(reversed(entries))
        self._waiting[channel_id] = waiting
        self._moved(1, entries)

    def take(self, limit: int, most_bytes: int) -> tuple[list[Entry], int]:
        """Remove and return the first entries of the next channel, and the number of channels with waiting entries.

        The entries are at most ``limit`` and, except for the last one, below ``most_bytes``. Without waiting entries the
        list is empty.
        """
        waiting = [entries for entries in self._waiting.values() if entries]
        if not waiting:
            return [], 0
        first = waiting[0]
        taken: list[Entry] = []
        size = 0
        while first and len(taken) < limit and size < most_bytes:
            taken.append(first.popleft())
            size += size_of(taken[-1])
        self._moved(-1, taken)
        return taken, len(waiting)

    def release(self, channel_id: int) -> list[Entry]:
        """Remove a channel whose lock has ended. Return the entries that still wait for it."""
        left = list(self._waiting.pop(channel_id))
        self._moved(-1, left)
        if channel_id in self._said:
            self._said.remove(channel_id)
            logger.warning(
                "channel %d accepts messages again: the lock on its row is gone",
                channel_id,
                extra={"event": "channel_free", "channel_id": channel_id},
            )
        return left

    def expired(self, limit: float) -> list[Entry]:
        """Remove and return the entries that were queued until ``limit`` (loop time). They do not wait any longer."""
        gone: list[Entry] = []
        for entries in self._waiting.values():
            while entries and entries[0].queued_at <= limit:
                gone.append(entries.popleft())
        self._moved(-1, gone)
        return gone

    def _moved(self, sign: int, entries: Sequence[Entry]) -> None:
        self._count += sign * len(entries)
        self.bytes += sign * sum(map(size_of, entries))
        if self._count * 2 < self._limit and self.bytes * 2 < self._most_bytes:
            self._shares.forget()
        elif self._shares.counting:
            for entry in entries:
                (self._shares.came if sign > 0 else self._shares.went)(entry)

    def oldest(self) -> float | None:
        """Return when the oldest waiting entry was queued (loop time); None without entries."""
        return min((entries[0].queued_at for entries in self._waiting.values() if entries), default=None)

    def refused(self, channel_id: int) -> None:
        """Log, once until the channel is free, that its publishers are refused."""
        if channel_id not in self._said:
            self._said.add(channel_id)
            logger.warning(
                "channel %d refuses messages: another transaction locks its row",
                channel_id,
                extra={"event": "channel_held", "channel_id": channel_id},
            )
