"""Group commit: the appends of a process, gathered into one short transaction after another.

When idle, what one loop turn brings commits at once; while a transaction runs, the next group gathers. One thread with
one kept connection does the work: one hop for each group, not for each message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor

from django.db import Error as DatabaseError
from django.db import connection

from ..protocol.errors import BusError
from .entry import Entry
from .store import CommitInDoubt, append_batch, verify

logger = logging.getLogger("arqonbus.log")


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
        timeout: float,
        window: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._committed = committed
        self._group = group
        self._queue_limit = queue_limit
        self._timeout = timeout
        self._window = window
        self._queue: deque[Entry] = deque()
        self._running = False
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._down = False
        #: For the metrics: (entries, seconds) of each commit.
        self.observe_commit: Callable[[int, float], None] = lambda entries, seconds: None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def available(self) -> bool:
        """Whether the last transaction went well."""
        return not self._down

    def append(self, entry: Entry) -> None:
        """Queue an entry; its ``done`` is called once it is committed or refused. Raises ``BusError`` BUSY when too many wait."""
        if len(self._queue) >= self._queue_limit:
            raise BusError("BUSY", retry_after=0.5)
        entry.queued_at = self._loop.time()
        self._queue.append(entry)
        if not self._running and not self._scheduled:
            # At the end of this turn: what came in the same read of the socket shares the transaction.
            self._scheduled = True
            self._idle.clear()
            self._loop.call_soon(self._start)

    async def drained(self) -> None:
        """Return when nothing waits."""
        await self._idle.wait()

    def _start(self) -> None:
        self._scheduled = False
        if self._running or not self._queue:
            return
        self._running = True
        queue = self._queue
        if len(queue) <= self._group:
            batch = list(queue)
            queue.clear()
        else:
            batch = [queue.popleft() for _ in range(self._group)]
        future = self._executor.submit(self._commit, batch)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished, batch))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._expire)

    def _commit(self, batch: list[Entry]) -> None:
        """In the thread: commit, and turn every failure into the entries' errors."""
        started = time.perf_counter()
        try:
            append_batch(batch, window=self._window)
        except CommitInDoubt:
            self._settle(batch)
        except DatabaseError as problem:
            self._fail(batch, "UNAVAILABLE", problem)
        except Exception:
            logger.exception("append failed", extra={"event": "append_failed", "entries": len(batch)})
            for entry in batch:
                entry.error = BusError("INTERNAL_ERROR")
        else:
            if self._down:
                self._down = False
                logger.warning("the message store is back", extra={"event": "store_back"})
            self.observe_commit(len(batch), time.perf_counter() - started)

    def _settle(self, batch: list[Entry]) -> None:
        """After a commit in doubt: ask the log, for as long as publishers may wait."""
        deadline = time.monotonic() + self._timeout
        while True:
            connection.close()
            try:
                if not verify(batch):
                    self._fail(batch, "UNAVAILABLE", None)
                return
            except DatabaseError as problem:
                if time.monotonic() > deadline:
                    self._fail(batch, "OUTCOME_UNKNOWN", problem)
                    return
                time.sleep(0.1)

    def _fail(self, batch: list[Entry], code: str, problem: Exception | None) -> None:
        connection.close()
        if not self._down:
            self._down = True
            logger.error(
                "the message store does not answer: %s",
                problem,
                extra={"event": "store_lost", "entries": len(batch)},
            )
        for entry in batch:
            entry.error = BusError(code, retry_after=1.0)

    def _finished(self, batch: list[Entry]) -> None:
        self._running = False
        self._committed(batch)
        for entry in batch:
            if entry.done is not None:
                entry.done(entry)
        if self._queue:
            self._start()
        else:
            self._idle.set()

    def _expire(self) -> None:
        """Refuse what waits longer than publishers may; it was never handed to the database."""
        self._watch = None
        limit = self._loop.time() - self._timeout
        while self._queue and self._queue[0].queued_at <= limit:
            entry = self._queue.popleft()
            entry.error = BusError("UNAVAILABLE", retry_after=1.0)
            if entry.done is not None:
                entry.done(entry)
        if self._running or self._queue:
            wait = self._queue[0].queued_at - limit if self._queue else self._timeout
            self._watch = self._loop.call_later(max(wait, 0.05), self._expire)
