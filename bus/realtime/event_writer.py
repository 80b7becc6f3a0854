"""The writer of a stream of Server-Sent Events: frames wait in memory, within bounds, until the response takes them.

Some servers do not wait in ``send`` until the client has taken the data. For those, ``backlog`` says how many bytes the server
holds back for the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .frame import Batch
from .writer import Bounds, Writer

#: Seconds between two looks at the server's backlog.
INTERVAL = 0.02


def no_backlog() -> int:
    """The backlog of a server whose ``send`` waits for the client."""
    return 0


class EventWriter(Writer):
    """Keeps frames until :meth:`next_frames` takes them."""

    __slots__ = ("_backlog", "_bytes", "_queue", "_waiter", "close_code")
    name = "events"

    def __init__(
        self, bounds: Bounds, on_overflow: Callable[[], None], backlog: Callable[[], int] = no_backlog
    ) -> None:
        super().__init__(bounds, on_overflow)
        self._backlog = backlog
        # A list and a future: an empty deque alone has 760 bytes, and a process may have thousands of streams.
        self._queue: list[bytes] = []
        self._bytes = 0
        # Done as soon as there is something to take; None while nobody waits.
        self._waiter: asyncio.Future[None] | None = None
        #: The code that :meth:`close` was called with.
        self.close_code: int | None = None

    def _write(self, batch: Batch) -> None:
        if self.closed:
            return
        self._queue.extend(batch.payloads)
        self._bytes += sum(map(len, batch.payloads))
        if self.buffered() > self.bounds.bytes or len(self._queue) > self.bounds.frames:
            self._overflow()
        self._wake()

    def buffered(self) -> int:
        return self._bytes + self._backlog()

    def crowded(self, size: int, frames: int) -> bool:
        return 2 * (len(self._queue) + frames) > self.bounds.frames or super().crowded(size, frames)

    def drained(self) -> bool:
        return 16 * len(self._queue) <= self.bounds.frames and super().drained()

    async def next_frames(self, patience: float) -> list[bytes]:
        """All waiting frames, after a wait of at most ``patience`` seconds for the first one. Empty when none came.

        Raises ``TimeoutError`` when the client takes nothing of the server's backlog within the bounds' deadline.
        """
        if not self._queue and not self.closed:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(patience):
                    await self._waiter
            except TimeoutError:
                return []
            finally:
                self._waiter = None
        if self._queue:
            await self._backlog_sent()
        frames, self._queue, self._bytes = self._queue, [], 0
        return frames

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _backlog_sent(self) -> None:
        """Wait until the server's backlog is at most a quarter of the bound."""
        loop = asyncio.get_running_loop()
        last, since = self._backlog(), loop.time()
        while last > self.bounds.bytes // 4:
            await asyncio.sleep(INTERVAL)
            now = self._backlog()
            if now < last:
                since = loop.time()
            elif loop.time() - since > self.bounds.deadline:
                raise TimeoutError
            last = now

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self.close_code = code
            self._wake()

    def abort(self) -> None:
        self.closed = True
        self._queue, self._bytes = [], 0
        self._wake()
