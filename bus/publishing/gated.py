"""Messages of an event loop that stand before gates: their queues, the threads that run the gates, and the limit.

Each channel has a queue in the order of arrival, and one message of it at a time is in a thread. So the order of a client's
messages to a channel is kept, and its messages to other channels do not wait. A gate that takes too long costs its own
publishers their messages: its thread is replaced, and gates of one kind have only a part of the threads.

A publisher always gets a true answer, as from the log's writer. UNAVAILABLE means that its message is not and will not be in
the log: the loop decides that before the commit, and the thread then rolls back what its gate did.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from ..auth.permissions import Actor
from ..conf.table import Config
from ..gates import Gate
from ..log import Entry
from ..log.entry import size_of
from ..log.flight import Flight
from ..log.shares import Shares
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound
from .gate_threads import GateThreads
from .gate_work import keep
from .gating import Candidate, passes_by, takes_too_long

logger = logging.getLogger("arqonbus.gates")

#: Threads may become this many times as many, while gates take longer than their limit.
STRETCH = 4
#: Parts of streamed messages that one transaction takes.
GROUP = 200

Kind = tuple[Gate, ...]


class Passage:
    """Messages of one channel in a thread. ``late`` says that their publishers had their answer before the end."""

    __slots__ = ("candidates", "flight", "kind", "late")

    def __init__(self, candidates: list[Candidate], kind: Kind, patience: float) -> None:
        self.candidates = candidates
        self.kind = kind
        self.flight = Flight([candidate.entry for candidate in candidates], patience)
        self.late = False

    @property
    def channel_id(self) -> int:
        """The channel of the messages."""
        return self.flight.entries[0].channel_id


class GateQueue:
    """Queues messages in the event loop, has their gates run in threads, and hands the results back to the loop.

    ``committed`` gets the entries of a transaction, and ``passed`` an entry of an ephemeral channel that its gates let pass;
    both before the entry's own ``done``. The ``settings`` say how many threads there are, how long a message may wait, and how
    many may wait.
    """

    def __init__(
        self, committed: Callable[[list[Entry]], None], passed: Callable[[Entry], None], settings: Config
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._committed, self._passed = committed, passed
        self._most = settings.gate_threads
        self._timeout, self._commit_timeout = settings.gate_timeout, settings.store_timeout
        self._window = settings.idempotency_window
        self._threads = GateThreads()
        self._limit, self._most_bytes = settings.queue_limit, settings.queue_bytes
        self._shares = Shares(self._limit, self._most_bytes)
        self._waiting: dict[int, deque[Candidate]] = {}
        # The channels of each kind of gates that have waiting messages and none in a thread, in the order of their turns.
        self._turns: dict[Kind, deque[int]] = {}
        self._flying: dict[int, Passage] = {}
        self._of_kind: dict[Kind, int] = {}
        self._late = 0
        self._count = self._bytes = 0
        self._watch: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return self._count

    def append(self, entry: Entry, inbound: Inbound, actor: Actor) -> None:
        """Queue a message. The entry's ``done`` is called once it is committed or refused. Raises ``BusError`` BUSY."""
        many = self._count * 2 >= self._limit or self._bytes * 2 >= self._most_bytes
        if many and self._shares.refuses(entry, self._entries(), self._count, self._bytes):
            raise BusError(ErrorCode.BUSY, retry_after=0.5)
        entry.queued_at = self._loop.time()
        candidate = Candidate(entry, inbound, actor, connected=True)
        queue = self._waiting.get(entry.channel_id)
        if queue is None:
            queue = self._waiting[entry.channel_id] = deque()
        queue.append(candidate)
        self._moved(candidate, 1)
        self._idle.clear()
        if len(queue) == 1 and entry.channel_id not in self._flying:
            self._take_turn(entry.channel_id, candidate)
        self._watch_over()

    async def drained(self) -> None:
        """Return when every publisher has its answer."""
        await self._idle.wait()

    async def landed(self) -> None:
        """Return once the loop has the results of the commits that were sent already."""
        for passage in list(self._flying.values()):
            while passage.flight.on_its_way and self._flying.get(passage.channel_id) is passage:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def behind(self, channel_id: int) -> None:
        """Return once the messages of a channel that wait now have their results."""
        now = self._loop.time()
        while self._waits_since(channel_id, now):  # noqa: ASYNC110 - as long as publishers wait at most
            await asyncio.sleep(0.005)

    def _waits_since(self, channel_id: int, moment: float) -> bool:
        queue, passage = self._waiting.get(channel_id), self._flying.get(channel_id)
        if queue and queue[0].entry.queued_at <= moment:
            return True
        return passage is not None and not passage.late and passage.flight.entries[0].queued_at <= moment

    def end(self) -> list[Future[None]]:
        """End the threads that are free. The futures are done when these have closed their connections."""
        return self._threads.end()

    # --- turns --------------------------------------------------------------------------------------------------------

    def _take_turn(self, channel_id: int, first: Candidate) -> None:
        self._turns.setdefault(first.kind, deque()).append(channel_id)
        self._start()

    def _start(self) -> None:
        """Give free threads to the channels whose turn it is."""
        while (kind := self._next_kind()) is not None:
            channels = self._turns.pop(kind)
            channel_id = channels.popleft()
            if channels:
                # The kind that had its turn waits behind the others.
                self._turns[kind] = channels
            if channel_id not in self._waiting or channel_id in self._flying:
                continue  # Its messages waited for too long, and were answered.
            passage = self._flying[channel_id] = Passage(self._taken(channel_id), kind, self._timeout)
            self._of_kind[kind] = self._of_kind.get(kind, 0) + 1
            deadline = passage.flight.entries[0].queued_at + self._timeout - self._loop.time()
            self._threads.submit(lambda passage=passage, left=deadline: self._run(passage, left))  # type: ignore[misc]

    def _next_kind(self) -> Kind | None:
        if self._threads.busy - self._late >= self._most or self._threads.busy >= STRETCH * self._most:
            return None
        # Gates that hang must leave threads for others.
        share = max(1, self._most // 2)
        return next((kind for kind in self._turns if self._of_kind.get(kind, 0) < share), None)

    def _taken(self, channel_id: int) -> list[Candidate]:
        """The next message of a channel. Parts of streamed messages, which meet no gates, come together."""
        queue = self._waiting[channel_id]
        taken = [queue.popleft()]
        while queue and len(taken) < GROUP and not taken[0].gates and not queue[0].gates:
            taken.append(queue.popleft())
        if not queue:
            del self._waiting[channel_id]
        for candidate in taken:
            self._moved(candidate, -1)
        return taken

    def _run(self, passage: Passage, left: float) -> None:
        """Run the gates of messages and keep them, in one of the threads."""
        try:
            keep(passage.candidates, passage.flight, left=left, timeout=self._commit_timeout, window=self._window)
        finally:
            self._loop.call_soon_threadsafe(self._finished, passage)

    # --- in the loop ----------------------------------------------------------------------------------------------------

    def _finished(self, passage: Passage) -> None:
        self._threads.returned()
        self._late -= passage.late
        kind, channel_id = passage.kind, passage.channel_id
        self._of_kind[kind] -= 1
        if not self._of_kind[kind]:
            del self._of_kind[kind]
        del self._flying[channel_id]
        if channel_id in self._waiting:
            self._turns.setdefault(kind, deque()).append(channel_id)
        self._settle(passage.flight.entries)
        self._start()
        self._watch_over()

    def _settle(self, batch: list[Entry]) -> None:
        try:
            self._committed([entry for entry in batch if entry.error is not None or not passes_by(entry)])
            for entry in batch:
                if entry.error is None and passes_by(entry):
                    self._passed(entry)
        except BusError as problem:
            for entry in batch:
                entry.error = problem
        except Exception:
            logger.exception("the work after a commit failed", extra={"event": "internal_error"})
        for entry in batch:
            _answer(entry)

    def _watch_over(self) -> None:
        """Look again when the next publisher has waited for its time."""
        if not self._count and len(self._flying) == self._late:
            self._idle.set()
        elif self._watch is None:
            wait = min(self._times()) - self._loop.time()
            self._watch = self._loop.call_later(max(wait, 0.05), self._expire)

    def _times(self) -> Iterator[float]:
        for queue in self._waiting.values():
            yield queue[0].entry.queued_at + self._timeout
        for passage in self._flying.values():
            if not passage.late:
                more = self._commit_timeout if passage.flight.on_its_way else 0.0
                yield passage.flight.entries[0].queued_at + self._timeout + more

    def _expire(self) -> None:
        """Answer the publishers that have waited for the limit. What their gates still do is rolled back."""
        self._watch = None
        now = self._loop.time()
        for passage in list(self._flying.values()):
            since = passage.flight.entries[0].queued_at + self._timeout
            if passage.late or since > now:
                continue
            if passage.flight.abandon():
                self._leave(passage, takes_too_long)
            elif since + self._commit_timeout <= now:
                self._leave(passage, lambda: BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0))
        for channel_id, queue in list(self._waiting.items()):
            while queue and queue[0].entry.queued_at + self._timeout <= now:
                candidate = queue.popleft()
                self._moved(candidate, -1)
                candidate.entry.error = takes_too_long()
                _answer(candidate.entry)
            if not queue:
                del self._waiting[channel_id]
        self._start()
        self._watch_over()

    def _leave(self, passage: Passage, problem: Callable[[], BusError]) -> None:
        """Answer the publishers of messages whose thread does not come back. Another thread takes its place."""
        passage.late = True
        self._late += 1
        for entry in passage.flight.entries:
            # The thread still uses the entry. Its publisher gets a copy and is not called again.
            told = copy.copy(entry)
            entry.done = None
            told.error = problem()
            _answer(told)

    def _entries(self) -> Iterator[Entry]:
        return (candidate.entry for queue in self._waiting.values() for candidate in queue)

    def _moved(self, candidate: Candidate, sign: int) -> None:
        self._count += sign
        self._bytes += sign * size_of(candidate.entry)
        if self._count * 2 < self._limit and self._bytes * 2 < self._most_bytes:
            self._shares.forget()
        elif self._shares.counting:
            (self._shares.came if sign > 0 else self._shares.went)(candidate.entry)


def _answer(entry: Entry) -> None:
    if entry.done is not None:
        try:
            entry.done(entry)
        except Exception:
            logger.exception("the work after a commit failed", extra={"event": "internal_error"})
