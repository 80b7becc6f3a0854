"""A batch on its way into the database, shared by the event loop and the thread that writes it."""

from __future__ import annotations

import threading

from .entry import Entry


class Abandoned(Exception):
    """The loop has answered the publishers of the batch that nothing was published."""


class Flight:
    """A batch that a thread writes. Its lock decides whether the loop may still withdraw it.

    ``apart`` marks a batch of one channel that waits for the lock on its row. ``patience`` is how many seconds the thread
    waits for a lock of another transaction. After the thread's work, ``passed`` has the entries that such a lock left
    unwritten. ``told`` has the ids of entries whose publishers got an answer meanwhile. ``met`` is the error of the first
    attempt, while a second attempt runs.
    """

    __slots__ = ("_lock", "_state", "apart", "entries", "met", "passed", "patience", "told")

    def __init__(self, entries: list[Entry], patience: float, *, apart: bool = False) -> None:
        self.entries = entries
        self.apart = apart
        self.patience = patience
        self.passed: list[Entry] = []
        self.told: set[int] = set()
        self.met: Exception | None = None
        self._lock = threading.Lock()
        self._state = "writing"

    def committing(self) -> None:
        """Called in the thread before it sends the commit. Raises :class:`Abandoned` if the loop has withdrawn the batch."""
        self._go_on("committing")

    def undone(self) -> None:
        """Called in the thread after a rollback, before another transaction. Raises as :meth:`committing`."""
        self._go_on("writing")

    def _go_on(self, state: str) -> None:
        with self._lock:
            if self._state == "abandoned":
                raise Abandoned
            self._state = state

    def abandon(self) -> bool:
        """Called in the loop to withdraw the batch. Return False if its commit has already been sent."""
        with self._lock:
            if self._state == "committing":
                return False
            self._state = "abandoned"
            return True

    @property
    def on_its_way(self) -> bool:
        """Return whether the batch may already be in the database."""
        return self._state == "committing"

    @property
    def abandoned(self) -> bool:
        """Return whether the batch was withdrawn: the log has no entry of it and will get none."""
        return self._state == "abandoned"
