"""A batch on its way into the database: shared by the loop and the thread that works on it."""

from __future__ import annotations

import threading

from .entry import Entry


class Abandoned(Exception):
    """The publishers of the batch were told that it was not taken."""


class Flight:
    """The batch that a thread works on. Whether it may still be withdrawn is decided under its lock.

    ``apart`` marks the entries of one channel that had to wait before; ``patience`` is how many seconds the thread waits for a
    lock that others hold; ``passed``, once the thread is done, are the entries that it could not write for such locks; ``told``
    are the ids of those whose publishers were answered meanwhile; ``met`` is what a first attempt met, while a second one runs.
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
        """From the thread, before the commit is sent. Raises :class:`Abandoned` when the loop was quicker."""
        self._go_on("committing")

    def undone(self) -> None:
        """From the thread: the transaction is rolled back, another one may begin. Raises as :meth:`committing`."""
        self._go_on("writing")

    def _go_on(self, state: str) -> None:
        with self._lock:
            if self._state == "abandoned":
                raise Abandoned
            self._state = state

    def abandon(self) -> bool:
        """From the loop: give the batch up. False when its commit is on the way already."""
        with self._lock:
            if self._state == "committing":
                return False
            self._state = "abandoned"
            return True

    @property
    def on_its_way(self) -> bool:
        """Whether it may be in the database already."""
        return self._state == "committing"

    @property
    def abandoned(self) -> bool:
        """Whether it was given up: nothing of it is or will be in the log."""
        return self._state == "abandoned"
