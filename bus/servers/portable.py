"""The writer for any ASGI server: it uses ASGI ``send`` alone."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from ..realtime.frame import Batch
from ..realtime.writer import Bounds, Send, Writer


class PortableWriter(Writer):
    """A queue, and one task for each connection that has something to send."""

    __slots__ = ("_asgi_send", "_bytes", "_queue", "_taken", "_task")
    name = "portable"

    def __init__(self, send: Send, bounds: Bounds, on_overflow: Callable[[], None]) -> None:
        super().__init__(bounds, on_overflow)
        self._asgi_send = send
        self._queue: deque[bytes | int] = deque()
        self._bytes = 0
        self._taken = 0
        self._task: asyncio.Task[None] | None = None

    def _write(self, batch: Batch) -> None:
        if self.closed or self.overflowed:
            return
        for payload in batch.payloads:
            self._queue.append(payload)
            self._bytes += len(payload)
        if self._bytes > self.bounds.bytes or len(self._queue) > self.bounds.frames:
            self._overflow()
        elif self._timer is None:
            self._watch_deadline()
        self._wake()

    def buffered(self) -> int:
        return self._bytes

    def crowded(self, size: int, frames: int) -> bool:
        return 2 * (len(self._queue) + frames) > self.bounds.frames or super().crowded(size, frames)

    def drained(self) -> bool:
        return 16 * len(self._queue) <= self.bounds.frames and super().drained()

    def taken(self) -> int:
        return self._taken

    def close(self, code: int) -> None:
        if not self.closed:
            self.flush()
            self.closed = True
            self._queue.append(code)
            self._wake()
            # The server's `send` may wait for a client that never reads. ASGI can only cut it by ending the application.
            asyncio.get_running_loop().call_later(self.linger, self._give_up)

    def abort(self) -> None:
        self.closed = True
        self._give_up()

    def _give_up(self) -> None:
        self._queue.clear()
        self._bytes = 0
        if self._task is not None:
            self._task.cancel()

    def _wake(self) -> None:
        if self._task is None and self._queue:
            self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            while self._queue:
                item = self._queue.popleft()
                if isinstance(item, int):
                    await self._asgi_send({"type": "websocket.close", "code": item})
                    return
                await self._asgi_send({"type": "websocket.send", "text": item.decode()})
                self._bytes -= len(item)
                self._taken += len(item)
        except Exception:  # noqa: BLE001 - each server has its own class for a client that is gone
            # The consumer gets websocket.disconnect from the server.
            self.closed = True
            self._queue.clear()
            self._bytes = 0
        finally:
            self._task = None
