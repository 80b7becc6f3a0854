"""The interface of a writer, and the part that all writers share: the bounds of what waits for a client."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from .frame import Batch

Send = Callable[[Any], Awaitable[None]]

#: How often, in each send deadline, a writer checks whether the client takes what waits.
CHECKS = 4


class Bounds(msgspec.Struct, frozen=True):
    """How much may wait for one connection (bytes, frames), and how long its client may take nothing (seconds)."""

    bytes: int = 1024 * 1024
    frames: int = 1000
    deadline: float = 10.0


class Writer(abc.ABC):
    """Writes frames onto one socket, in the order of the calls, and never waits.

    ``send`` keeps a frame until ``flush`` or the next ``write``. The hub flushes at the end of each loop turn, so the answers
    of one turn share a write. ``on_overflow`` is called once, from a write or from a timer: when more than ``bounds`` waits
    for the client, or when the client has taken nothing for ``bounds.deadline`` seconds. The owner then closes the
    connection; frames that are written meanwhile are dropped.
    """

    __slots__ = (
        "_best",
        "_direct",
        "_send",
        "_since",
        "_timer",
        "bounds",
        "closed",
        "on_overflow",
        "overflowed",
        "pending",
    )

    #: The writer's name in the start-up line and in ``/version``.
    name = "abstract"

    def __init__(self, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        self.bounds = bounds
        self.on_overflow = on_overflow
        # None instead of an empty list: a fan-out touches one place in memory less for each connection.
        self.pending: list[bytes] | None = None
        self.closed = False
        #: Whether the bounds or the deadline were exceeded.
        self.overflowed = False
        # The flag: the bytes of a batch may go straight to the socket, by its own method ``send``. A subclass sets both.
        self._direct = False
        self._send: Callable[[bytes], int] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The most bytes that the client had taken, and since when it has taken no more.
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
        """Write a batch, after what ``send`` has kept: both at once."""
        if self.pending is not None:
            batch = self._after_pending(batch)
        self._write(batch)

    def _after_pending(self, batch: Batch) -> Batch:
        """Return what ``send`` has kept, with a batch behind it."""
        pending, self.pending = self.pending, None
        before = Batch(pending or ())
        # The bytes of a large batch for many clients are made once.
        wire = None if batch._wire is None else before.wire + batch._wire
        return Batch([*before.payloads, *batch.payloads], wire)

    def _left(self, batch: Batch, sent: int) -> None:
        """Queue what the socket did not take of a batch that went straight to it: all but ``sent`` bytes."""
        raise NotImplementedError

    def disconnected(self) -> bool:
        """Whether the server knows that the connection has ended; its consumer may hear of it later. For any thread."""
        return self.closed

    @abc.abstractmethod
    def _write(self, batch: Batch) -> None: ...

    @abc.abstractmethod
    def buffered(self) -> int:
        """Bytes that wait in this process for the client to take them."""

    def crowded(self, size: int, frames: int) -> bool:
        """Whether ``frames`` of ``size`` bytes that the client can do without should be left out.

        That is the case when a quarter of the bound waits already, or half of it would wait with them.
        """
        waiting, most = self.buffered(), self.bounds.bytes
        return 4 * waiting > most or 2 * (waiting + size) > most

    def drained(self) -> bool:
        """Whether the client takes what it is sent: at most a sixteenth of the bound waits."""
        return 16 * self.buffered() <= self.bounds.bytes

    def taken(self) -> int:
        """Bytes that had to wait and have left this process since; grows while the client reads.

        For writers that watch the deadline by :meth:`_watch_deadline`.
        """
        return 0

    @abc.abstractmethod
    def close(self, code: int) -> None:
        """Write what is kept, then close the WebSocket with ``code``. A second call does nothing.

        A client that does not take the close frame in time is cut off.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Cut the connection at once, and drop what waits for the client."""

    def end(self) -> None:
        """The connection has ended: leave the server's objects as they were. Nothing is written afterwards."""
        return

    def ping(self) -> None:
        """Send a ping to a silent client, where the server leaves that to the bus."""
        return

    # --- the bounds ---------------------------------------------------------------------------------------------------

    def check_bounds(self) -> None:
        """Report an overflow when too many bytes wait, also of frames that this writer did not write (pongs)."""
        if self.buffered() > self.bounds.bytes:
            self._overflow()

    def _overflow(self) -> None:
        if not self.overflowed:
            self.overflowed = True
            self.on_overflow()

    def _watch_deadline(self) -> None:
        """Begin to check whether the client takes what waits; does nothing while a check is scheduled."""
        if self._timer is None and not self.overflowed:
            loop = asyncio.get_running_loop()
            self._best, self._since = self.taken(), loop.time()
            self._timer = loop.call_later(self.bounds.deadline / CHECKS, self._check_deadline)

    def _check_deadline(self) -> None:
        self._timer = None
        if self.closed or self.overflowed or not self.buffered():
            return
        loop = asyncio.get_running_loop()
        taken = self.taken()
        if taken > self._best:
            self._best, self._since = taken, loop.time()
        elif loop.time() - self._since >= self.bounds.deadline:
            self._overflow()
            return
        self._timer = loop.call_later(self.bounds.deadline / CHECKS, self._check_deadline)

    @property
    def linger(self) -> float:
        """Seconds that a client has to take the close frame; few for one that took nothing for the whole deadline."""
        stuck = self.overflowed and asyncio.get_running_loop().time() - self._since >= self.bounds.deadline
        return min(1.0, self.bounds.deadline) if stuck else self.bounds.deadline
