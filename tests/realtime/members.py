"""Members of a hub whose writers keep what they are given: no socket, no server."""

from __future__ import annotations

from bus.realtime.frame import Batch
from bus.realtime.writer import Bounds, Writer


class KeepingWriter(Writer):
    """Keeps the frames, and each write by itself; with a bound it overflows as a writer of a slow client does."""

    name = "keeping"

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.overflows = 0
        super().__init__(bounds or Bounds(bytes=1 << 40, frames=1 << 40), self._count_overflow)
        self.frames: list[bytes] = []
        self.writes: list[list[bytes]] = []
        self.batches: list[Batch] = []
        self.size = 0

    def _count_overflow(self) -> None:
        self.overflows += 1

    def _write(self, batch: Batch) -> None:
        if self.closed or self.overflowed:
            return
        self.batches.append(batch)
        self.writes.append(list(batch.payloads))
        self.frames += batch.payloads
        self.size += sum(map(len, batch.payloads))
        if self.size > self.bounds.bytes or len(self.frames) > self.bounds.frames:
            self._overflow()

    def buffered(self) -> int:
        return self.size

    def close(self, code: int) -> None:
        self.flush()
        self.closed = True

    def abort(self) -> None:
        self.closed = True


class Listener:
    """A member."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.kept = KeepingWriter(bounds)
        self.writer: Writer = self.kept

    @property
    def frames(self) -> list[bytes]:
        """All frames that it got, in order."""
        return self.kept.frames
