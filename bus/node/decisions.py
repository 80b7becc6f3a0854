"""Decisions in one process: requests that wait for the end of one, and the expiry of all.

The database decides that a decision has ended. A notification wakes the requests that wait, and a look each second finds what no
notification told of: the process in which somebody decided may have been killed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .. import shapes
from ..auth.permissions import Actor
from ..notify.messages import DecisionsEnded
from ..services import decision_expiry
from ..services import decision_rows as rows
from .runtime import Runtime

#: Seconds between two looks at all decisions.
INTERVAL = 1.0

Result = TypeVar("Result")


class Decisions:
    """Lets requests wait for the end of decisions, and ends those whose time is over."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._waiting: defaultdict[int, set[asyncio.Event]] = defaultdict(set)
        self._draining = False

    async def write(self, function: Callable[[], Result]) -> Result:
        """Call a service that writes a decision. Raises ``BusError``, and the database's error."""
        return await self._runtime.run_decider(function)

    async def wait(self, actor: Actor, uid: str, seconds: float) -> shapes.Decision:
        """Return a decision as ``actor`` sees it, at its end or after some ``seconds``.

        Raises ``BusError`` DECISION_NOT_FOUND, also if the right to see it ends meanwhile.
        """
        until = self._runtime.loop.time() + seconds
        row = await self._runtime.run(rows.find, actor, uid)
        with self.waiting(row.pk) as ended:
            while True:
                # The row is read again, because it may have ended before this process began to listen.
                row = await self._runtime.run(rows.find, actor, uid)
                left = until - self._runtime.loop.time()
                if row.state != rows.PENDING or left <= 0 or self._draining:
                    return await self._runtime.run(rows.shape_of, row, actor)
                ended.clear()
                try:
                    await asyncio.wait_for(ended.wait(), left)
                except TimeoutError:
                    continue

    @contextmanager
    def waiting(self, key: int) -> Iterator[asyncio.Event]:
        """Within it, the event is set when the decision with the row ``key`` may have ended."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    def receive(self, notification: DecisionsEnded) -> None:
        """Wake the requests that wait for decisions that ended in another process or thread."""
        self._wake(notification.decisions)

    def _wake(self, keys: Iterable[int]) -> None:
        for key in keys:
            for event in self._waiting.get(key, ()):
                event.set()

    async def look(self) -> float:
        """End what is overdue, and wake the requests whose decisions have ended. Return the seconds until the next look."""
        found = await self._runtime.run_watcher(decision_expiry.look, list(self._waiting))
        self._wake(found.ended)
        if found.overdue:
            swept = await self._runtime.run_decider(decision_expiry.sweep)
            return 0.0 if swept == decision_expiry.SWEPT else INTERVAL
        return INTERVAL

    def drain(self) -> None:
        """Answer the requests that wait, because the process stops."""
        self._draining = True
        self._wake(list(self._waiting))
