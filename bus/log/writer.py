"""Group commit: the appends of a process, gathered into one short transaction after another.

When idle, what one loop turn brings commits at once; while a transaction runs, the next group gathers. One thread with
one kept connection does the work: one hop for each group, not for each message.

What a publisher is told is true. UNAVAILABLE means that nothing of it is or will be in the log: the entry never left the
queue, or its transaction was undone, or it is abandoned before the commit was sent. OUTCOME_UNKNOWN means that the commit was
sent and no answer came in time; should it turn out to be there after all, subscribers get it.

On PostgreSQL a channel whose row another transaction holds for long costs its own publishers only: the batch goes on without
it, and its entries wait apart (``held``), in their order, for a second thread that waits for one such row after another. It
waits in the database's own queue for the row, so nothing is polled, and it holds no other row meanwhile, so nobody waits for it
in a circle. The first thread waits for no lock longer than a moment.
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

from ..protocol.errors import BusError, ErrorCode
from .committer import Committer
from .entry import Entry, size_of
from .flight import Flight
from .held import Held
from .shares import Shares

logger = logging.getLogger("arqonbus.log")

#: How long, in seconds, a batch waits for a lock: longer than other processes' short transactions, too short to be felt.
PATIENCE = 0.05
#: The same for a channel that is waited for apart from all others; shared by the channels that are.
LONG_PATIENCE = 0.5
#: A refusal that is the fault of one channel only.
_HELD = "Another transaction locks this channel; nothing was published. Try again."


#: Bytes from which on a transaction takes no further message.
GROUP_BYTES = 16 * 1024 * 1024


class LogWriter:
    """Takes entries in the loop, commits them in ``executor`` (of one thread), hands them back to the loop.

    ``apart`` (of one thread, too) is where channels are waited for whose row is locked.

    ``committed`` is called with the entries of a transaction, in their order, before any entry's own ``done``.
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
        # From here on it is looked at who sent what waits.
        self._many, self._many_bytes = queue_limit // 2, queue_bytes // 2
        self._shares = Shares(queue_limit, queue_bytes)
        self._timeout = timeout
        self._committer = Committer(timeout=timeout, window=window)
        self._queue: deque[Entry] = deque()
        self._bytes = 0
        self._flight: Flight | None = None
        self._held = Held(queue_limit, queue_bytes)
        self._flight_apart: Flight | None = None
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        #: For the metrics: the entries of each commit, when it began and when it ended (loop time); called in the thread.
        self.observe_commit: Callable[[list[Entry], float, float], None] = lambda batch, began, ended: None

    def __len__(self) -> int:
        return len(self._queue) + len(self._held)

    @property
    def available(self) -> bool:
        """Whether the database took what it was given last: a transaction of the log, or a sign of life."""
        return not self._committer.down

    def lost(self, problem: BaseException) -> None:
        """The database does not answer somebody else; said once, until it does or a transaction of ours goes well."""
        self._committer.lost(problem, 0)

    def heard(self) -> None:
        """The database answers somebody else again."""
        self._committer.heard()

    def append(self, entry: Entry, *, further: bool = False) -> None:
        """Queue an entry; its ``done`` is called once it is committed or refused.

        Raises ``BusError`` BUSY when too many wait (:class:`Shares`), unless it is a ``further`` copy of one that was taken.
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
            # At the end of this turn: what came in the same read of the socket shares the transaction.
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
        """Return when nothing waits."""
        await self._idle.wait()

    async def landed(self) -> None:
        """Return once what is committed apart by now is handed over. (The other thread: by whoever asks it for anything.)"""
        flight = self._flight_apart
        while flight is not None and flight.on_its_way and self._flight_apart is flight:  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.005)

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
        flight = self._flight = Flight(batch, PATIENCE)
        future = self._executor.submit(self._commit, flight)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._finished, flight))
        self._watch_over()

    def _start_apart(self) -> None:
        """Have the next of the held channels waited for, if none is."""
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
        """In a thread."""
        began = self._loop.time()
        whole = self._committer.commit(flight)
        if whole and len(flight.passed) < len(flight.entries):
            passed = set(map(id, flight.passed))
            written = [entry for entry in flight.entries if id(entry) not in passed] if passed else flight.entries
            self.observe_commit(written, began, self._loop.time())
        if flight.apart:
            # Another one is rarely needed; the database's connections are few.
            connection.close()

    # --- in the loop ------------------------------------------------------------------------------------------------

    def _finished(self, flight: Flight) -> None:
        self._flight = None
        self._settle(flight)
        if flight.passed and not flight.abandoned:
            self._hold(flight.passed)
        self._go_on()

    def _finished_apart(self, flight: Flight) -> None:
        self._flight_apart = None
        self._settle(flight)
        channel_id = flight.entries[0].channel_id
        # Who was told meanwhile that nothing was published is not waited for any more.
        left = [entry for entry in flight.passed if id(entry) not in flight.told]
        if flight.passed:
            self._held.put_back(channel_id, left)
        else:
            # In the order in which they came, which is that of each channel, too.
            free = self._held.release(channel_id)
            self._queue = deque(heapq.merge(self._queue, free, key=lambda entry: entry.queued_at))
            self._bytes += sum(map(size_of, free))
            self._shares.forget()
        self._go_on()

    def _settle(self, flight: Flight) -> None:
        """Tell what became of a flight's entries, but of those that wait on."""
        passed = set(map(id, flight.passed))
        batch = [entry for entry in flight.entries if id(entry) not in passed] if passed else flight.entries
        try:
            self._committed(batch)
        except Exception:
            logger.exception("the work after a commit failed", extra={"event": "internal_error"})
        for entry in batch:
            self._answer(entry)

    def _hold(self, entries: Sequence[Entry]) -> None:
        """Set entries of locked channels aside, and behind them what is queued for the same channels."""
        locked = {entry.channel_id for entry in entries}
        behind = [entry for entry in self._queue if entry.channel_id in locked]
        if behind:
            self._queue = deque(entry for entry in self._queue if entry.channel_id not in locked)
            self._bytes -= sum(map(size_of, behind))
            self._shares.forget()
        for entry in (*entries, *behind):
            self._held.add(entry)

    def _go_on(self) -> None:
        if self._queue:
            self._start()
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
        """Answer those who have waited for as long as publishers may: what is queued, and what the database sits on."""
        self._watch = None
        limit = self._loop.time() - self._timeout
        flight = self._flight
        if flight is not None and flight.entries[0].queued_at <= limit:
            code = ErrorCode.UNAVAILABLE if flight.abandon() else ErrorCode.OUTCOME_UNKNOWN
            for entry in flight.entries:
                if entry.done is not None and (code == ErrorCode.UNAVAILABLE or entry.queued_at <= limit):
                    # The thread has the entry; its publisher gets a copy, and is not called again.
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
        """The same for the channels that are waited for apart; those who came later wait on."""
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
