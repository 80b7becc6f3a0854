"""The recent messages of the logs, from which those who come back and those who ask for history are served without the database.

Each log keeps a few, consecutive and up to its head. All logs of a process together have a budget: when it is spent, each
forgets its older half. That needs no list of who was used last, and as it frees half of the memory it costs a message little.
"""

from __future__ import annotations

from collections import deque

#: A message of a log: its ``seq``, and the frame as it goes to clients.
Row = tuple[int, bytes]


class Recent:
    """What is remembered of one log; filled by a :class:`Memory`."""

    __slots__ = ("_rows", "size")

    def __init__(self) -> None:
        self._rows: deque[Row] = deque()
        #: Bytes of the frames.
        self.size = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def first(self) -> int | None:
        """The oldest ``seq`` that is remembered."""
        return self._rows[0][0] if self._rows else None

    def after(self, seq: int) -> list[Row] | None:
        """The messages behind ``seq``; None when memory does not reach back that far."""
        rows = self._rows
        if not rows or rows[0][0] > seq + 1:
            return None
        return [row for row in rows if row[0] > seq]

    def frame(self, seq: int) -> bytes | None:
        """One message; None when it is not remembered."""
        first = self.first
        return self._rows[seq - first][1] if first is not None and first <= seq < first + len(self._rows) else None


class Memory:
    """The budget: ``messages`` and ``size`` (bytes) for each log, ``total`` (bytes) for all of them together."""

    def __init__(self, *, messages: int, size: int, total: int) -> None:
        self._messages = messages
        self._size = size
        self._total = total
        self._filled: set[Recent] = set()
        #: Bytes of all frames that are remembered.
        self.used = 0

    def put(self, recent: Recent, seq: int, frame: bytes) -> None:
        """Remember the next message of a log. The newest of each is kept, however large, while the total allows it."""
        rows, length = recent._rows, len(frame)
        if not rows:
            self._filled.add(recent)
        rows.append((seq, frame))
        recent.size += length
        self.used += length
        while len(rows) > self._messages or (recent.size > self._size and len(rows) > 1):
            self._forget_oldest(recent)
        if self.used > self._total:
            self._make_room()

    def prime(self, recent: Recent, head: int, rows: list[Row]) -> None:
        """Add older messages, read by somebody from the log whose last ``seq`` is ``head``, as far as there is room.

        They are consecutive and end at ``head`` or right before what is remembered; others are of no use.
        """
        first = recent.first or head + 1
        older = [row for row in rows if row[0] < first]
        if not older or older[-1][0] != first - 1 or older[-1][0] - older[0][0] != len(older) - 1:
            return
        for row in reversed(older):
            length = len(row[1])
            if len(recent) >= self._messages or recent.size + length > self._size or self.used + length > self._total:
                break
            self._filled.add(recent)
            recent._rows.appendleft(row)
            recent.size += length
            self.used += length

    def forget(self, recent: Recent) -> None:
        """Remember nothing of a log any more."""
        self._shrink(recent, 0)

    def _make_room(self) -> None:
        for recent in list(self._filled):
            self._shrink(recent, recent.size // 2)

    def _shrink(self, recent: Recent, size: int) -> None:
        while recent._rows and recent.size > size:
            self._forget_oldest(recent)
        if not recent._rows:
            self._filled.discard(recent)

    def _forget_oldest(self, recent: Recent) -> None:
        length = len(recent._rows.popleft()[1])
        recent.size -= length
        self.used -= length
