"""Checkpoints of SQLite's write-ahead log, beside the thread that commits.

SQLite copies the log of its last commits (the file ``-wal``) into the database once it has some pages. By itself it does so
within a commit, and all publishers wait for two writes to the disk. Here a second thread copies while the first one commits.
Then the first thread copies the few pages that came meanwhile, between two transactions. After that SQLite begins the file
anew, so it stays small. A commit does the work itself only if the second thread falls far behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress

from django.db import Error as DatabaseError
from django.db import connection

logger = logging.getLogger("arqonbus.log")

#: The part of ``wal_autocheckpoint`` after which the second thread begins, and the multiple of it that a commit tolerates.
EARLY, LATE = 0.75, 4
#: Pages that the first thread copies at most, unless the second one cannot keep up.
REST = 100
#: Attempts of the second thread to leave no more than that.
ATTEMPTS = 3


class Checkpoints:
    """Decides when to copy. Only the event loop uses it.

    ``executor`` is the thread that commits, and ``apart`` the second one.
    """

    def __init__(self, executor: Executor, apart: Executor) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor, self._apart = executor, apart
        self._begun = self._busy = False
        # Pages after which to copy; None without checkpoints.
        self._pages: float | None = None
        # Commits since the last copy, and the pages of one commit, as learned from it.
        self._commits, self._each = 0, 10.0
        # The pages of the file at the last copy. A long read transaction keeps the file from beginning anew.
        self._before = 0

    def begin(self) -> None:
        """Prepare the connection of the thread that commits. Called before its first commit; later calls do nothing."""
        if not self._begun:
            self._begun = True
            self._run(self._executor, prepare, self._prepared)

    def committed(self) -> None:
        """Count a commit, and copy if it is time."""
        self._commits += 1
        if self._pages is not None and not self._busy and self._commits * self._each >= self._pages:
            self._busy = True
            self._run(self._apart, copy_most, self._copied_most)

    def _prepared(self, most: int) -> None:
        self._pages = most * EARLY if most > 0 else None

    def _copied_most(self, pages: int) -> None:
        new = pages - self._before if pages > self._before else pages
        if new > 0:
            self._each = max(new / max(self._commits, 1), 1.0)
        self._commits, self._before = 0, pages
        self._run(self._executor, copy_rest, self._copied_rest)

    def _copied_rest(self, _: int) -> None:
        self._busy = False

    def _run(self, executor: Executor, work: Callable[[], int], then: Callable[[int], None]) -> None:
        def ended(future: Future[int]) -> None:
            with suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(then, future.result())

        with suppress(RuntimeError):  # The threads take no more work.
            executor.submit(_quietly, work).add_done_callback(ended)


def _quietly(work: Callable[[], int]) -> int:
    """Return the result of ``work``, and 0 where the database does not answer: publishers hear of that from their commits."""
    try:
        return work()
    except DatabaseError as problem:
        logger.debug("checkpoint: %s", problem)
        connection.close()
        return 0


def prepare() -> int:
    """Let the commits of this thread's connection leave the copying to others. Return the project's own ``wal_autocheckpoint``.

    A project that sets it to 0 has somebody else who copies, such as a replication tool.
    """
    most = _ask("PRAGMA wal_autocheckpoint")[0]
    if most > 0:
        _ask(f"PRAGMA wal_autocheckpoint={most * LATE}")
    return most


def copy_most() -> int:
    """Copy what is in the write-ahead log, while other threads write to it. Return its pages."""
    pages = 0
    for _ in range(ATTEMPTS):
        _, pages, copied = _ask("PRAGMA wal_checkpoint(PASSIVE)")
        if pages - copied <= REST:
            break
    return pages


def copy_rest() -> int:
    """Copy what came meanwhile. With no other reader, SQLite begins the write-ahead log anew at the next commit."""
    return _ask("PRAGMA wal_checkpoint(PASSIVE)")[1]


def _ask(statement: str) -> tuple[int, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row: tuple[int, ...] = cursor.fetchone()
    return row
