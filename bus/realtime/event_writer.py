"""The writer of a stream of Server-Sent Events: frames wait in memory, bounded, until the response takes them.

Where the server's ``send`` waits for the peer (uvicorn), that is all. Daphne's does not, so what lies in its transport is counted
too. Internals used for that, and nothing else of them: daphne's HTTP ``send`` is ``functools.partial(server.handle_reply,
request)``; Twisted's ``request.channel.transport`` with ``dataBuffer``, ``offset`` and ``_tempDataLen``.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import Any

from .frame import Batch
from .writer import Bounds, Send, Writer


def backlog_of(send: Send | None) -> Callable[[], int]:
    """How many bytes the server holds back for the peer of a response; 0 where the server's ``send`` waits by itself."""
    if not isinstance(send, functools.partial) or len(send.args) != 1:
        return _nothing
    transport: Any = getattr(getattr(send.args[0], "channel", None), "transport", None)
    if not all(hasattr(transport, name) for name in ("dataBuffer", "offset", "_tempDataLen")):
        return _nothing
    return lambda: len(transport.dataBuffer) - transport.offset + transport._tempDataLen


def _nothing() -> int:
    return 0


class EventWriter(Writer):
    """Keeps frames until :meth:`take`; ``backlog`` tells what of earlier ones has not left yet."""

    __slots__ = ("_backlog", "_bytes", "_queue", "_ready", "close_code")
    name = "events"

    def __init__(self, bounds: Bounds, on_overflow: Callable[[], None], backlog: Callable[[], int] = _nothing) -> None:
        super().__init__(bounds, on_overflow)
        self._backlog = backlog
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._ready = asyncio.Event()
        #: What :meth:`close` was called with.
        self.close_code: int | None = None

    def _write(self, batch: Batch) -> None:
        if self.closed:
            return
        self._queue.extend(batch.payloads)
        self._bytes += sum(map(len, batch.payloads))
        if self.buffered() > self.bounds.bytes or len(self._queue) > self.bounds.frames:
            self._overflow()
        self._ready.set()

    def buffered(self) -> int:
        return self._bytes + self._backlog()

    async def take(self, patience: float) -> list[bytes]:
        """What waits, after a wait of ``patience`` seconds at most for the first frame; nothing when none came, or at the end.

        Raises ``TimeoutError`` when the peer takes nothing of what the server holds for it within the bounds' deadline.
        """
        if not self._queue and not self.closed:
            self._ready.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._ready.wait()
            except TimeoutError:
                return []
        if self._queue:
            await self._let_go()
        frames, self._bytes = list(self._queue), 0
        self._queue.clear()
        return frames

    async def _let_go(self) -> None:
        """Wait until the server holds no more than a quarter of the bound."""
        loop = asyncio.get_running_loop()
        last, since = self._backlog(), loop.time()
        while last > self.bounds.bytes // 4:
            await asyncio.sleep(0.02)
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
            self._ready.set()

    def abort(self) -> None:
        self.closed = True
        self._queue.clear()
        self._bytes = 0
        self._ready.set()
