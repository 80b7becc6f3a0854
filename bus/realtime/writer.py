"""The contract of a writer."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from .frame import Batch

Send = Callable[[Any], Awaitable[None]]

#: Looks at a connection that something waits for, in each send deadline.
LOOKS = 4


class Bounds(msgspec.Struct, frozen=True):
    """How much may wait for one connection, and for how long."""

    bytes: int = 1024 * 1024
    frames: int = 1000
    deadline: float = 10.0


class Writer(abc.ABC):
    """Writes frames onto one socket, in the order of the calls, and never waits.

    ``send`` keeps a frame until ``flush`` or until the next ``write``; the hub flushes at the end of each loop turn, so the
    answers of one turn share a write. ``on_overflow`` is called, from the write or from a timer, when more than ``bounds``
    waits for the peer, and when the peer has taken nothing of what waits for ``bounds.deadline`` seconds. The owner then
    closes; what is written meanwhile is dropped.
    """

    __slots__ = ("_best", "_since", "_watch", "bounds", "closed", "on_overflow", "overflowed", "pending")

    #: What the start-up line and ``/version`` call it.
    name = "abstract"

    def __init__(self, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        self.bounds = bounds
        self.on_overflow = on_overflow
        # None rather than an empty list: one place in memory less to look at for each connection of a fan-out.
        self.pending: list[bytes] | None = None
        self.closed = False
        #: Whether the bound or the deadline was reached.
        self.overflowed = False
        self._watch: asyncio.TimerHandle | None = None
        # The most that the peer had taken, and since when it has taken no more.
        self._best = self._since = 0.0

    def send(self, payload: bytes) -> None:
        """Keep one frame (JSON text in UTF-8) for this turn's write."""
        if self.pending is None:
            self.pending = [payload]
        else:
            self.pending.append(payload)

    def flush(self) -> None:
        """Write what ``send`` has kept."""
        pending = self.pending
        if pending is not None:
            self.pending = None
            self._write(Batch(pending))

    def write(self, batch: Batch) -> None:
        """Write a batch, after what ``send`` has kept."""
        if self.pending is not None:
            self.flush()
        self._write(batch)

    def gone(self) -> bool:
        """Whether the connection has ended as far as the server knows; its consumer may hear of it later. From any thread."""
        return self.closed

    @abc.abstractmethod
    def _write(self, batch: Batch) -> None: ...

    @abc.abstractmethod
    def buffered(self) -> int:
        """Bytes that wait in this process for the peer to take them."""

    def taken(self) -> int:
        """Bytes that went on to the peer's machine of those that had to wait; grows while the peer reads.

        For writers that let :meth:`_something_waits` look after the deadline.
        """
        return 0

    @abc.abstractmethod
    def close(self, code: int) -> None:
        """Write what is kept, then close the WebSocket with ``code``; calling it again does nothing.

        A peer that does not take the close frame in time is dropped.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop the connection at once, with what waits for it."""

    def end(self) -> None:
        """The connection is over: leave the server's objects as they were. Nothing is called afterwards that writes."""
        return

    def ping(self) -> None:
        """Ask a silent peer for a sign of life, where the server leaves that to us."""
        return

    # --- too much, or for too long ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Look whether more waits than may, of which the writer's own frames need not be a part."""
        if self.buffered() > self.bounds.bytes:
            self._overflow()

    def _overflow(self) -> None:
        if not self.overflowed:
            self.overflowed = True
            self.on_overflow()

    def _something_waits(self) -> None:
        """Begin to look whether the peer takes any of it; costs nothing while that goes on already."""
        if self._watch is None and not self.overflowed:
            loop = asyncio.get_running_loop()
            self._best, self._since = self.taken(), loop.time()
            self._watch = loop.call_later(self.bounds.deadline / LOOKS, self._look)

    def _look(self) -> None:
        self._watch = None
        if self.closed or self.overflowed or not self.buffered():
            return
        loop = asyncio.get_running_loop()
        taken = self.taken()
        if taken > self._best:
            self._best, self._since = taken, loop.time()
        elif loop.time() - self._since >= self.bounds.deadline:
            self._overflow()
            return
        self._watch = loop.call_later(self.bounds.deadline / LOOKS, self._look)

    @property
    def linger(self) -> float:
        """How long after our close frame a peer may stay: short for one that has taken nothing for the whole deadline."""
        stuck = self.overflowed and asyncio.get_running_loop().time() - self._since >= self.bounds.deadline
        return min(1.0, self.bounds.deadline) if stuck else self.bounds.deadline
