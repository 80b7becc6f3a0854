"""Group commit: the appends of a process, gathered into one short transaction after another.

When the writer is idle, the messages of one loop turn commit at once. While a transaction runs, the next group gathers, and
under load for a turn or two after it, so groups grow with the load.
One thread with one persistent connection does the work, so the loop and the thread switch once for each group.

A publisher always gets a true answer. UNAVAILABLE means that its message is not and will not be in the log. The entry never
left the queue, its transaction was rolled back, or the loop withdrew it before the commit was sent. OUTCOME_UNKNOWN
means that the commit was sent and no answer came in time. If the message is in the log after all, subscribers get it.

On PostgreSQL, another transaction may lock a channel's row for a long time. Only that channel's publishers then wait. The
batch continues without the channel. Its entries wait apart (``held``), in their order, for a second thread. That thread
waits for one such row after another, in the database's own queue, so nothing is polled. It holds no other row meanwhile,
so it cannot deadlock. The first thread waits for any lock only for a moment.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from django.db import connection

from .._speed import core
from ..protocol.errors import BusError, ErrorCode
from .checkpoints import Checkpoints
from .committer import Committer
from .entry import Entry, size_of
from .flight import Flight
from .held import Held
from .shares import Shares

logger = logging.getLogger("arqonbus.log")

#: Seconds that a batch waits for a lock: longer than short transactions of other processes, and too short to be noticed.
PATIENCE = 0.05
#: Seconds that the second thread waits for locked channels. The channels share them.
LONG_PATIENCE = 0.5
#: The error text if only one channel cannot be written.
_HELD = "Another transaction locks this channel; nothing was published. Try again."


#: Turns of the loop that a batch still gathers after the one before it. Under load, one turn reads from all sockets.
TURNS = 2
#: A transaction with this many bytes takes no further message.
GROUP_BYTES = 16 * 1024 * 1024


class LogWriter:
    """Queues entries in the event loop, commits them in ``executor`` and hands them back to the loop.

    ``apart`` is the executor that waits for locked channels. Each executor has one thread. ``committed`` is called with
    the entries of a transaction, in their order, before any entry's own ``done``. ``group`` is the most entries of a
    transaction. ``queue_limit`` and ``queue_bytes`` bound the queue. ``timeout`` is how many seconds publishers wait at
    most. ``window`` is how many seconds a repeated message id is recognised.
    """

    def __init__(
        self,
        executor: Executor,
        apart: Executor,
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
        self._apart = apart
        self._committed = committed
        self._group = group
        # From here on, waiting entries are counted by their owners.
        self._many, self._many_bytes = queue_limit // 2, queue_bytes // 2
        self._shares = Shares(queue_limit, queue_bytes)
        self._timeout = timeout
        self._committer = Committer(timeout=timeout, window=window)
        self._checkpoints = Checkpoints(executor, apart) if connection.vendor == "sqlite" else None
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._flight: Flight | None = None
        self._held = Held(queue_limit, queue_bytes)
        self._flight_apart: Flight | None = None
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        #: For the metrics: gets the entries of each commit, and its begin and end in loop time. It runs in the log's thread.
        self.observe_commit: Callable[[list[Entry], float, float], None] = lambda batch, began, ended: None

    def __len__(self) -> int:
        return len(self._queue) + len(self._held)

    @property
    def available(self) -> bool:
        """Whether the last write to the database succeeded: a transaction of the log, or a heartbeat."""
        return not self._committer.down

    def lost(self, problem: BaseException) -> None:
        """Note that the database does not answer other work of the process. The log reports this once until it is back."""
        self._committer.lost(problem, 0)

    def heard(self) -> None:
        """Note that the database answers other work of the process again."""
        self._committer.heard()

    def append(self, entry: Entry, *, further: bool = False) -> None:
        """Queue an entry. Its ``done`` is called once it is committed or refused.

        Raises ``BusError`` BUSY when too many entries wait (:class:`Shares`). A ``further`` copy of an accepted entry is
        always accepted.
        """
        if self._held and entry.channel_id in self._held:
            self._append_held(entry, further=further)
            return
        if len(self._queue) >= self._many or self._bytes >= self._many_bytes:
            if not further and self._shares.refuses(entry, self._queue, len(self._queue), self._bytes):
                raise BusError(ErrorCode.BUSY, retry_after=0.5)
            self._shares.came(entry)
        entry.queued_at = self._loop.time()
        self._queue.append(entry)
        self._bytes += size_of(entry)
        if self._flight is None and not self._scheduled:
            self._schedule()

    def append_all(self, entries: Sequence[Entry]) -> list[tuple[Entry, BusError]]:
        """Queue entries of different messages, in their order, with the same answers as :meth:`append` gives one by one.

        Return those that were refused, each with the error that :meth:`append` would have raised.
        """
        size = sum(map(size_of, entries))
        if self._held or len(self._queue) + len(entries) > self._many or self._bytes + size >= self._many_bytes:
            refused = []
            for entry in entries:
                try:
                    self.append(entry)
                except BusError as problem:
                    refused.append((entry, problem))
            return refused
        now = self._loop.time()
        for entry in entries:
            entry.queued_at = now
        self._queue.extend(entries)
        self._bytes += size
        if self._flight is None and not self._scheduled and entries:
            self._schedule()
        return []

    def _schedule(self) -> None:
        # The batch starts at the end of this turn, so that messages of one read of the socket share a transaction.
        self._scheduled = True
        self._idle.clear()
        self._loop.call_soon(self._start)

    def _append_held(self, entry: Entry, *, further: bool) -> None:
        if not further and self._held.refuses(entry):
            raise BusError(ErrorCode.BUSY, retry_after=0.5)
        entry.queued_at = self._loop.time()
        self._held.add(entry)
        self._idle.clear()
        self._start_apart()

    async def drained(self) -> None:
        """Return when no entry waits."""
        await self._idle.wait()

    async def landed(self) -> None:
        """Return once the loop has the result of a commit that the second thread has already sent.

        The first thread needs no such wait: it finishes its commit before it does other work for a caller.
        """
        flight = self._flight_apart
        while flight is not None and flight.on_its_way and self._flight_apart is flight:  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.005)

    async def behind(self) -> None:
        """Return once the entries that are queued now are in transactions, so that the writing thread reads after them."""
        now = self._loop.time()
        while self._waits_since(now):  # noqa: ASYNC110 - a moment, or as long as publishers wait
            await asyncio.sleep(0.005)

    def _waits_since(self, moment: float) -> bool:
        if self._queue and self._queue[0].queued_at <= moment:
            return True
        apart, held = self._flight_apart, self._held.oldest()
        return (apart is not None and apart.entries[0].queued_at <= moment) or (held is not None and held <= moment)

    def _gather(self, turns: int) -> None:
        if turns and len(self._queue) < self._group:
            self._loop.call_soon(self._gather, turns - 1)
        else:
            self._start()

    def _start(self) -> None:
        self._scheduled = False
        if self._flight is not None or not self._queue:
            return
        queue = self._queue
        if len(queue) <= self._group and self._bytes <= GROUP_BYTES:
            batch = list(queue)
            queue.clear()
            self._bytes = 0
            self._shares.forget()
        else:
            batch, before = [], self._bytes
            while queue and len(batch) < self._group and before - self._bytes < GROUP_BYTES:
                batch.append(self._next())
            if len(queue) < self._many and self._bytes < self._many_bytes:
                self._shares.forget()
        if self._checkpoints is not None:
            self._checkpoints.begin()
        flight = self._flight = Flight(batch, PATIENCE)
        future = self._executor.submit(self._commit, flight)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished, flight))
        self._watch_over()

    def _start_apart(self) -> None:
        """Let the second thread wait for the next locked channel, unless it already waits for one."""
        if self._flight_apart is not None:
            return
        batch, channels = self._held.take(self._group, GROUP_BYTES)
        if not batch:
            return
        flight = self._flight_apart = Flight(batch, max(LONG_PATIENCE / channels, PATIENCE), apart=True)
        future = self._apart.submit(self._commit, flight)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished_apart, flight))
        self._watch_over()

    def _watch_over(self) -> None:
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout, self._expire)

    def _next(self) -> Entry:
        entry = self._queue.popleft()
        self._bytes -= size_of(entry)
        self._shares.went(entry)
        return entry

    def _commit(self, flight: Flight) -> None:
        """Write a batch, in one of the threads."""
        began = self._loop.time()
        whole = self._committer.commit(flight)
        if whole and len(flight.passed) < len(flight.entries):
            passed = set(map(id, flight.passed))
            written = [entry for entry in flight.entries if id(entry) not in passed] if passed else flight.entries
            self.observe_commit(written, began, self._loop.time())
        if flight.apart:
            # The second thread is rarely needed, and connections to the database are few.
            connection.close()

    # --- in the loop ------------------------------------------------------------------------------------------------

    def _finished(self, flight: Flight) -> None:
        self._flight = None
        self._settle(flight)
        if self._checkpoints is not None:
            self._checkpoints.committed()
        if flight.passed and not flight.abandoned:
            self._hold(flight.passed)
        self._go_on()

    def _finished_apart(self, flight: Flight) -> None:
        self._flight_apart = None
        self._settle(flight)
        channel_id = flight.entries[0].channel_id
        # Entries whose publishers were refused meanwhile must not be published later.
        left = [entry for entry in flight.passed if id(entry) not in flight.told]
        if flight.passed:
            self._held.put_back(channel_id, left)
        else:
            # Both queues merge in the order of arrival, which is also the order of each channel.
            free = self._held.release(channel_id)
            self._queue = deque(heapq.merge(self._queue, free, key=lambda entry: entry.queued_at))
            self._bytes += sum(map(size_of, free))
            self._shares.forget()
        self._go_on()

    def _settle(self, flight: Flight) -> None:
        """Give the result of a batch to its publishers, except for entries that continue to wait."""
        passed = set(map(id, flight.passed))
        batch = [entry for entry in flight.entries if id(entry) not in passed] if passed else flight.entries
        try:
            self._committed(batch)
        except Exception:
            logger.exception("the work after a commit failed", extra={"event": "internal_error"})
        if core is not None:
            core.answer_all(batch, self._answer)
        else:
            for entry in batch:
                self._answer(entry)

    def _hold(self, entries: Sequence[Entry]) -> None:
        """Move entries of locked channels to ``held``, followed by queued entries of the same channels."""
        locked = {entry.channel_id for entry in entries}
        behind = [entry for entry in self._queue if entry.channel_id in locked]
        if behind:
            self._queue = deque(entry for entry in self._queue if entry.channel_id not in locked)
            self._bytes -= sum(map(size_of, behind))
            self._shares.forget()
        for entry in (*entries, *behind):
            self._held.add(entry)

    def _go_on(self) -> None:
        if self._queue and self._flight is None and not self._scheduled:
            # What waited during a commit shares the next one with what clients have sent behind it.
            self._scheduled = True
            self._loop.call_soon(self._gather, TURNS - 1)
        self._start_apart()
        if self._flight is None and self._flight_apart is None and not self._queue and not len(self._held):
            self._idle.set()

    @staticmethod
    def _answer(entry: Entry) -> None:
        if entry.done is not None:
            try:
                entry.done(entry)
            except Exception:
                logger.exception("the work after a commit failed", extra={"event": "internal_error"})

    def _refuse(self, entry: Entry, code: ErrorCode, message: str | None = None) -> None:
        entry.error = BusError(code, message, retry_after=1.0)
        self._answer(entry)

    def _expire(self) -> None:
        """Answer publishers that have waited for the timeout: of queued entries and of batches that the database delays."""
        self._watch = None
        limit = self._loop.time() - self._timeout
        flight = self._flight
        if flight is not None and flight.entries[0].queued_at <= limit:
            code = ErrorCode.UNAVAILABLE if flight.abandon() else ErrorCode.OUTCOME_UNKNOWN
            for entry in flight.entries:
                if entry.done is not None and (code == ErrorCode.UNAVAILABLE or entry.queued_at <= limit):
                    # The thread still uses the entry. Its publisher gets a copy and is not called again.
                    told = copy.copy(entry)
                    entry.done = None
                    self._refuse(told, code)
            self._committer.lost(flight.met, len(flight.entries))
        while self._queue and self._queue[0].queued_at <= limit:
            self._refuse(self._next(), ErrorCode.UNAVAILABLE)
            self._shares.forget()
        if self._held:
            self._expire_held(limit)
        if self._flight is not None or self._flight_apart is not None or self._queue or len(self._held):
            oldest = [self._queue[0].queued_at] if self._queue else []
            if self._flight_apart is not None:
                flight_told = self._flight_apart.told
                oldest += [entry.queued_at for entry in self._flight_apart.entries if id(entry) not in flight_told][:1]
            held = self._held.oldest()
            wait = min([*oldest, held] if held is not None else oldest, default=limit + self._timeout / 4) - limit
            self._watch = self._loop.call_later(min(max(wait, 0.05), self._timeout / 4), self._expire)
        else:
            self._idle.set()

    def _expire_held(self, limit: float) -> None:
        """Answer publishers of locked channels that have waited for the timeout. Newer entries continue to wait."""
        flight = self._flight_apart
        if flight is not None and flight.entries[0].queued_at <= limit:
            code = ErrorCode.UNAVAILABLE if flight.abandon() else ErrorCode.OUTCOME_UNKNOWN
            for entry in flight.entries:
                if entry.queued_at <= limit and entry.done is not None:
                    told = copy.copy(entry)
                    entry.done = None
                    self._refuse(told, code, _HELD if code == ErrorCode.UNAVAILABLE else None)
                if entry.queued_at <= limit:
                    flight.told.add(id(entry))
            self._held.refused(flight.entries[0].channel_id)
        for entry in self._held.expired(limit):
            self._refuse(entry, ErrorCode.UNAVAILABLE, _HELD)
            self._held.refused(entry.channel_id)
