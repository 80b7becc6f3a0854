"""Writes of many connections, gathered into one transaction after another, in the same thread as the log."""

from __future__ import annotations

import asyncio
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

    def __init__(self, runtime: Runtime, apply: Callable[[Sequence[Item]], list[Any]]) -> None:
        super().__init__(runtime.writer, lambda items: database_call(apply, items))
        self._runtime = runtime

    async def write(self, item: Item) -> Any:
        """Carry out one write and return its answer. Raises ``BusError`` UNAVAILABLE when none comes in time."""
        problem = unavailable()
        try:
            async with asyncio.timeout(self._runtime.settings.store_timeout + GRACE):
                while True:
                    try:
                        return await self.submit(item)
                    except ChannelHeld:
                        problem = BusError(
                            ErrorCode.UNAVAILABLE, "Another transaction locks this channel. Try again.", retry_after=1.0
                        )
                        await asyncio.sleep(HELD_AGAIN)
        except (DatabaseError, TimeoutError):
            raise problem from None
