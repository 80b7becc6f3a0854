"""The recent messages of the logs, kept in memory so that replay and history need no database.

Each log keeps a few consecutive messages up to its head. All logs of a process share a budget. When it is spent, each log
drops its older half: that needs no order of use, and frees half of the memory at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from .frame import LoggedFrame


class RecentMessages:
    """The recent messages of one log, with consecutive seqs. A :class:`RecentBudget` fills and empties it."""

    __slots__ = ("_first", "_frames", "size")

    def __init__(self) -> None:
        # The seq of the first frame.
        self._first = 0
        self._frames: deque[bytes] = deque()
        #: Bytes of the frames.
        self.size = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def first(self) -> int | None:
        """The oldest ``seq`` in memory; None when there is none."""
        return self._first if self._frames else None

    def after(self, seq: int) -> list[LoggedFrame] | None:
        """The messages after ``seq``; None when memory does not reach back that far."""
        first = self._first
        if not self._frames or first > seq + 1:
            return None
        skipped = seq + 1 - first
        return [LoggedFrame(first + n, frame) for n, frame in enumerate(islice(self._frames, skipped, None), skipped)]

    def reaches(self, seq: int) -> bool:
        """Whether memory has every message after ``seq``."""
        return bool(self._frames) and self._first <= seq + 1

    def frames_after(self, seq: int) -> list[bytes]:
        """The messages after ``seq`` without their seqs; memory must reach back that far."""
        return list(islice(self._frames, seq + 1 - self._first, None))

    def frame(self, seq: int) -> bytes | None:
        """The message with this ``seq``; None when it is not in memory."""
        place = seq - self._first
        return self._frames[place] if 0 <= place < len(self._frames) else None


class RecentBudget:
    """Limits recent messages: ``messages`` and ``size`` (bytes) for each log, ``total`` (bytes) for all logs together."""

    def __init__(self, *, messages: int, size: int, total: int) -> None:
        self._messages = messages
        self._size = size
        self._total = total
        self._filled: set[RecentMessages] = set()
        #: Bytes of all frames in memory.
        self.used = 0

    def put(self, recent: RecentMessages, seq: int, frame: bytes) -> None:
        """Keep the next message of a log. The newest one stays, however large it is, while the total allows it."""
        frames, length = recent._frames, len(frame)
        if not frames:
            self._filled.add(recent)
            recent._first = seq
        frames.append(frame)
        size = recent.size + length
        used = self.used + length
        while len(frames) > self._messages or (size > self._size and len(frames) > 1):
            # The body of `_drop_oldest`, without the call: a log that is full drops one for each message.
            dropped = len(frames.popleft())
            recent._first += 1
            size -= dropped
            used -= dropped
        recent.size, self.used = size, used
        if used > self._total:
            self._make_room()

    def prime(self, recent: RecentMessages, head: int, rows: Sequence[LoggedFrame]) -> None:
        """Add older messages that were read from the log whose last ``seq`` is ``head``, as far as there is room.

        ``rows`` must be consecutive, and end at ``head`` or right before the first message in memory. Others are ignored.
        """
        first = recent.first or head + 1
        older = [row for row in rows if row.seq < first]
        if not older or older[-1].seq != first - 1 or older[-1].seq - older[0].seq != len(older) - 1:
            return
        for seq, frame in reversed(older):
            length = len(frame)
            if len(recent) >= self._messages or recent.size + length > self._size or self.used + length > self._total:
                break
            self._filled.add(recent)
            recent._first = seq
            recent._frames.appendleft(frame)
            recent.size += length
            self.used += length

    def forget(self, recent: RecentMessages) -> None:
        """Drop all recent messages of a log."""
        self._shrink(recent, 0)

    def _make_room(self) -> None:
        for recent in list(self._filled):
            self._shrink(recent, recent.size // 2)

    def _shrink(self, recent: RecentMessages, size: int) -> None:
        while recent._frames and recent.size > size:
            self._drop_oldest(recent)
        if not recent._frames:
            self._filled.discard(recent)

    def _drop_oldest(self, recent: RecentMessages) -> None:
        length = len(recent._frames.popleft())
        recent._first += 1
        recent.size -= length
        self.used -= length
