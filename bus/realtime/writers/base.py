"""The contract of a writer."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ..frame import Batch

Send = Callable[[Any], Awaitable[None]]


class Bounds(msgspec.Struct, frozen=True):
    """How much may wait for one connection, and for how long."""

    bytes: int = 1024 * 1024
    frames: int = 1000
    deadline: float = 10.0


class Writer(abc.ABC):
    """Writes frames onto one socket, in the order of the calls, and never waits.

    ``send`` keeps a frame until ``flush`` or until the next ``write``; the hub flushes at the end of each loop turn, so the
    answers of one turn share a write. When more than ``bounds`` would wait for the peer, ``on_overflow`` is called once
    and the writer takes nothing more but ``close``.
    """

    __slots__ = ("bounds", "closed", "on_overflow", "pending")

    #: What the start-up line and ``/version`` call it.
    name = "abstract"

    def __init__(self, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        self.bounds = bounds
        self.on_overflow = on_overflow
        self.pending: list[bytes] = []
        self.closed = False

    def send(self, payload: bytes) -> None:
        """Keep one frame (JSON text in UTF-8) for this turn's write."""
        self.pending.append(payload)

    def flush(self) -> None:
        """Write what ``send`` has kept."""
        if self.pending:
            pending, self.pending = self.pending, []
            self._write(Batch(pending))

    def write(self, batch: Batch) -> None:
        """Write a batch, after what ``send`` has kept."""
        if self.pending:
            self.flush()
        self._write(batch)

    @abc.abstractmethod
    def _write(self, batch: Batch) -> None: ...

    @abc.abstractmethod
    def buffered(self) -> int:
        """Bytes that wait in this process for the peer to take them."""

    @abc.abstractmethod
    def close(self, code: int) -> None:
        """Write what is kept, then close the WebSocket with ``code``; calling it again does nothing."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop the connection at once, with what waits for it."""

    def ping(self) -> None:
        """Ask a silent peer for a sign of life, where the server leaves that to us."""
        return
