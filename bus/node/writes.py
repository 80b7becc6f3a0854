"""Writes of many connections, gathered into one transaction after another, in the same thread as the log."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from django.db import Error as DatabaseError

from ..protocol.errors import BusError, ErrorCode
from ..services.held import ChannelHeld
from .batch import Batcher, Item
from .runtime import Runtime
from .threads import database_call, unavailable

#: Seconds after which a channel whose row another transaction holds is asked for again.
HELD_AGAIN = 0.05
#: Seconds that a write may take beyond the time of the log's own writes.
GRACE = 3.0


class Writes(Batcher[Item]):
    """Gathers the writes of a loop turn. ``apply`` carries them out, and returns the answer or the exception of each."""

    def __init__(self, runtime: Runtime, apply: Callable[[Sequence[Item]], list[Any]], *, turns: int = 0) -> None:
        super().__init__(runtime.writer, lambda items: database_call(apply, items), turns=turns)
        self._runtime = runtime
        # The writes without an answer, each with its deadline, the earliest first. One timer serves all of them.
        self._due: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, item: Item) -> Any:
        """Carry out one write and return its answer. Raises ``BusError`` UNAVAILABLE when none comes in time."""
        deadline = self._loop.time() + self._runtime.settings.store_timeout + GRACE
        try:
            return await self._in_time(self.submit(item), deadline)
        except ChannelHeld:
            return await self._write_again(item, deadline)
        except (DatabaseError, TimeoutError):
            raise unavailable() from None

    def _in_time(self, answer: asyncio.Future[Any], deadline: float) -> asyncio.Future[Any]:
        """Let a future raise ``TimeoutError`` after the deadline. No earlier call had a later one."""
        due = self._due
        while due and due[0][1].done():
            due.popleft()
        due.append((deadline, answer))
        if self._timer is None or self._timer.when() > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(deadline, self._end_overdue)
        return answer

    def _end_overdue(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due:
            deadline, answer = self._due[0]
            if not answer.done():
                if deadline > now:
                    self._timer = self._loop.call_at(deadline, self._end_overdue)
                    return
                answer.set_exception(TimeoutError())
            self._due.popleft()

    async def _write_again(self, item: Item, deadline: float) -> Any:
        """Try again and again while another transaction holds the channel's row."""
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    await asyncio.sleep(HELD_AGAIN)
                    try:
                        return await self.submit(item)
                    except ChannelHeld:
                        continue
        except (DatabaseError, TimeoutError):
            raise BusError(
                ErrorCode.UNAVAILABLE, "Another transaction locks this channel. Try again.", retry_after=1.0
            ) from None
