"""Which positions have messages to handle: threads of one process take them from a board, so that each has another one."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from ..models import Handler
from . import positions
from .handling import Outcome, Result, handle_next
from .registry import Registered

logger = logging.getLogger("arqonbus.handlers")

#: Seconds between two looks at the database when there was nothing to do.
PAUSE = 0.2
#: With many channels a look takes a while. The pause is at least this many times as long, up to the longest one.
REST, LONGEST_PAUSE = 10, 5.0
#: Seconds between two looks at all channels, and between two signs of life of a handler.
SEEN_EVERY = 10.0
#: Positions that one look finds at most.
FOUND = 200
#: Messages of a position that a thread handles in one go.
TURN = 100


class Board:
    """The positions of some handlers that are ready, and those at which threads of this process are at work."""

    def __init__(self, registered: Sequence[Registered]) -> None:
        self._registered = list(registered)
        self._handlers: dict[int, tuple[Handler, Registered]] = {}
        self._lock = threading.Lock()
        self._queue: deque[positions.Ready] = deque()
        self._at_work: set[int] = set()
        self._looked_at = self._seen_at = -SEEN_EVERY
        self._newest_channel = 0
        self._pause = PAUSE

    def empty(self) -> bool:
        """Look now, and return whether no thread is at work and no position is ready. Raises the database's error."""
        with self._lock:
            self._looked_at = -LONGEST_PAUSE
            self._look()
            return not self._at_work and not self._queue

    def begin(self) -> None:
        """Make the rows of the handlers. The handlers hear of every message from now on. Raises the database's error."""
        with self._lock:
            self._begin()

    def _begin(self) -> None:
        for one in self._registered[len(self._handlers) :]:
            handler = positions.begin(one)
            self._handlers[handler.pk] = (handler, one)

    def work_once(self, holder: str, stopping: threading.Event) -> bool:
        """Handle some messages of one position, until ``stopping`` is set. Return False if there are none.

        ``holder`` names the calling thread. Raises the database's error.
        """
        found = self._take()
        if found is None:
            return False
        taken, registered = found
        outcome = Outcome.EMPTY
        try:
            for _ in range(TURN):
                result: Result = handle_next(registered, taken.id, holder)
                outcome = result.outcome
                if outcome not in (Outcome.HANDLED, Outcome.PASSED) or stopping.is_set():
                    break
        finally:
            self._give_back(taken.id, more=outcome in (Outcome.HANDLED, Outcome.PASSED))
        return outcome is not Outcome.BUSY or bool(self._queue)

    def _take(self) -> tuple[positions.Ready, Registered] | None:
        with self._lock:
            if not self._queue:
                self._look()
            while self._queue:
                taken = self._queue.popleft()
                if taken.id not in self._at_work and taken.handler_id in self._handlers:
                    self._at_work.add(taken.id)
                    return taken, self._handlers[taken.handler_id][1]
        return None

    def _give_back(self, position_id: int, *, more: bool) -> None:
        with self._lock:
            self._at_work.discard(position_id)
            if more:
                self._looked_at = -LONGEST_PAUSE

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < self._pause:
            return
        self._begin()
        everything = now - self._seen_at >= SEEN_EVERY
        newest = positions.newest_channel()
        if everything or newest != self._newest_channel:
            self._drop_forgotten()
            for handler, registered in self._handlers.values():
                positions.discover(handler, registered, 0 if everything else self._newest_channel)
            self._newest_channel = newest
        if everything:
            positions.seen(self._handlers.keys())
            self._seen_at = now
        self._queue.extend(positions.ready(list(self._handlers), FOUND))
        self._looked_at = time.monotonic()
        self._pause = min(max(PAUSE, (self._looked_at - now) * REST), LONGEST_PAUSE)

    def _drop_forgotten(self) -> None:
        """Run a handler no longer that somebody forgot. It would begin behind messages that nobody handled."""
        for gone in self._handlers.keys() - positions.there(self._handlers.keys()):
            _, registered = self._handlers.pop(gone)
            self._registered.remove(registered)
            logger.error(
                "the handler %s was forgotten while it ran; this process runs it no longer",
                registered.name,
                extra={"event": "handler_forgotten", "handler": registered.name},
            )
