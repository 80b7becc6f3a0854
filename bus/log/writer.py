"""Group commit: the appends of a process, gathered into one short transaction after another.

When idle, what one loop turn brings commits at once; while a transaction runs, the next group gathers. One thread with
one kept connection does the work: one hop for each group, not for each message.

What a publisher is told is true. UNAVAILABLE means that nothing of it is or will be in the log: the entry never left the
queue, or its transaction was undone, or it is abandoned before the commit was sent. OUTCOME_UNKNOWN means that the commit was
sent and no answer came in time; should it turn out to be there after all, subscribers get it.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor

from django.db import DataError, IntegrityError, connection
from django.db import Error as DatabaseError

from ..protocol.errors import BusError
from .entry import Entry
from .store import CommitInDoubt, append_batch, verify

logger = logging.getLogger("arqonbus.log")


class _Abandoned(Exception):
    """The publishers of the batch were told that it was not taken."""


class _Flight:
    """The batch that the thread works on. Whether it may still be withdrawn is decided under its lock."""

    __slots__ = ("_lock", "_state", "entries")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._lock = threading.Lock()
        self._state = "writing"

    def committing(self) -> None:
        """From the thread, before the commit is sent. Raises ``_Abandoned`` when the loop was quicker."""
        with self._lock:
            if self._state == "abandoned":
                raise _Abandoned
            self._state = "committing"

    def undone(self) -> None:
        """From the thread: the transaction is rolled back, another one may begin."""
        with self._lock:
            if self._state == "abandoned":
                raise _Abandoned
            self._state = "writing"

    def abandon(self) -> bool:
        """From the loop: give the batch up. False when its commit is on the way already."""
        with self._lock:
            if self._state == "committing":
                return False
            self._state = "abandoned"
            return True


#: Bytes from which on a transaction takes no further message.
GROUP_BYTES = 16 * 1024 * 1024


class LogWriter:
    """Takes entries in the loop, commits them in ``executor`` (of one thread), hands them back to the loop.

    ``committed`` is called with the entries of a transaction, in their order, before any entry's own ``done``.
    """

    def __init__(
        self,
        executor: Executor,
        committed: Callable[[list[Entry]], None],
        *,
        group: int,
        queue_limit: int,
        queue_bytes: int,
        timeout: float,
        window: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._committed = committed
        self._group = group
        self._queue_limit = queue_limit
        self._queue_bytes = queue_bytes
        self._timeout = timeout
        self._window = window
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._flight: _Flight | None = None
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._down = False
        #: For the metrics: the entries of each commit, when it began and when it ended (loop time); called in the thread.
        self.observe_commit: Callable[[list[Entry], float, float], None] = lambda batch, began, ended: None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def available(self) -> bool:
        """Whether the last transaction went well."""
        return not self._down

    def append(self, entry: Entry) -> None:
        """Queue an entry; its ``done`` is called once it is committed or refused. Raises ``BusError`` BUSY when too many wait."""
        if len(self._queue) >= self._queue_limit or self._bytes >= self._queue_bytes:
            raise BusError("BUSY", retry_after=0.5)
        entry.queued_at = self._loop.time()
        self._queue.append(entry)
        self._bytes += len(entry.head) + len(entry.tail)
        if self._flight is None and not self._scheduled:
            # At the end of this turn: what came in the same read of the socket shares the transaction.
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._start)

    async def drained(self) -> None:
        """Return when nothing waits."""
        await self._idle.wait()

    def _start(self) -> None:
        self._scheduled = False
        if self._flight is not None or not self._queue:
            return
        queue = self._queue
        if len(queue) <= self._group and self._bytes <= GROUP_BYTES:
            batch = list(queue)
            queue.clear()
            self._bytes = 0
        else:
            batch, before = [], self._bytes
            while queue and len(batch) < self._group and before - self._bytes < GROUP_BYTES:
                batch.append(self._next())
        flight = self._flight = _Flight(batch)
        future = self._executor.submit(self._commit, flight)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished, flight))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._expire)

    def _next(self) -> Entry:
        entry = self._queue.popleft()
        self._bytes -= len(entry.head) + len(entry.tail)
        return entry

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _commit(self, flight: _Flight) -> None:
        """Commit, and turn every failure into the entries' errors."""
        began = self._loop.time()
        batch = flight.entries
        kept = connection.connection is not None
        try:
            try:
                append_batch(batch, window=self._window, before_commit=flight.committing)
            except (DataError, IntegrityError):
                raise
            except DatabaseError:
                # A connection that was kept may have died long ago, with the restart of a database that is back by now.
                connection.close()
                if not kept:
                    raise
                flight.undone()
                append_batch(batch, window=self._window, before_commit=flight.committing)
        except _Abandoned:
            self._fail(batch, "UNAVAILABLE", None)
        except CommitInDoubt as problem:
            self._settle(batch, problem)
        except (DataError, IntegrityError):
            self._one_by_one(flight)
        except DatabaseError as problem:
            self._fail(batch, "UNAVAILABLE", problem)
        except Exception:  # noqa: BLE001 - whatever it is, each publisher gets an answer
            self._one_by_one(flight)
        else:
            if self._down:
                self._down = False
                logger.warning("the message store is back", extra={"event": "store_back"})
            self.observe_commit(batch, began, self._loop.time())

    def _settle(self, batch: list[Entry], cause: Exception) -> None:
        """After a commit in doubt: ask the log, for as long as publishers may wait."""
        deadline = time.monotonic() + self._timeout
        while True:
            connection.close()
            try:
                if not verify(batch):
                    self._fail(batch, "UNAVAILABLE", cause.__cause__)
                return
            except DatabaseError as problem:
                if time.monotonic() > deadline:
                    self._fail(batch, "OUTCOME_UNKNOWN", problem)
                    return
                time.sleep(0.1)

    def _one_by_one(self, flight: _Flight) -> None:
        """One entry that the database will not take costs only its own publisher."""
        connection.close()
        try:
            # Some of them will be there and some not, so from here on the batch cannot be withdrawn as a whole.
            flight.committing()
        except _Abandoned:
            self._fail(flight.entries, "UNAVAILABLE", None)
            return
        for entry in flight.entries:
            try:
                append_batch([entry], window=self._window)
            except CommitInDoubt as doubt:
                self._settle([entry], doubt)
            except (DataError, IntegrityError, ValueError, TypeError) as own:
                # The database's own words may quote the message; the kind of the fault is enough.
                logger.error(
                    "a message cannot be kept: %s",
                    type(own).__name__,
                    extra={"event": "append_failed", "channel_id": entry.channel_id},
                )
                entry.error = BusError("INTERNAL_ERROR")
            except Exception as own:  # noqa: BLE001 - whatever it is, each publisher gets an answer
                self._fail([entry], "UNAVAILABLE", own)

    def _fail(self, batch: list[Entry], code: str, problem: BaseException | None) -> None:
        connection.close()
        self._lost(problem, len(batch))
        for entry in batch:
            entry.error = BusError(code, retry_after=1.0)

    def _lost(self, problem: BaseException | None, entries: int) -> None:
        if not self._down:
            self._down = True
            logger.error(
                "the message store does not answer: %s",
                problem or f"nothing within {self._timeout:g} s",
                extra={"event": "store_lost", "entries": entries},
            )

    # --- in the loop ------------------------------------------------------------------------------------------------

    def _finished(self, flight: _Flight) -> None:
        self._flight = None
        batch = flight.entries
        try:
            self._committed(batch)
        except Exception:
            logger.exception("after a commit", extra={"event": "internal_error"})
        for entry in batch:
            self._answer(entry)
        if self._queue:
            self._start()
        else:
            self._idle.set()

    @staticmethod
    def _answer(entry: Entry) -> None:
        if entry.done is not None:
            try:
                entry.done(entry)
            except Exception:
                logger.exception("after a commit", extra={"event": "internal_error"})

    def _expire(self) -> None:
        """Answer those who have waited for as long as publishers may: what is queued, and what the database sits on."""
        self._watch = None
        limit = self._loop.time() - self._timeout
        flight = self._flight
        if flight is not None and flight.entries[0].queued_at <= limit:
            code = "UNAVAILABLE" if flight.abandon() else "OUTCOME_UNKNOWN"
            for entry in flight.entries:
                if entry.done is not None and (code == "UNAVAILABLE" or entry.queued_at <= limit):
                    # The thread has the entry; its publisher gets a copy, and is not called again.
                    told = copy.copy(entry)
                    entry.done = None
                    told.error = BusError(code, retry_after=1.0)
                    self._answer(told)
            self._lost(None, len(flight.entries))
        while self._queue and self._queue[0].queued_at <= limit:
            entry = self._next()
            entry.error = BusError("UNAVAILABLE", retry_after=1.0)
            self._answer(entry)
        if flight is not None or self._queue:
            wait = self._queue[0].queued_at - limit if self._queue else self._timeout / 4
            self._watch = self._loop.call_later(min(max(wait, 0.05), self._timeout / 4), self._expire)
