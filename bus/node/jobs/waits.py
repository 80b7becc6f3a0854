"""Claims that wait for a job. A notification wakes as many of them as jobs became ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from ...monitoring import metrics
from ...protocol.errors import BusError, ErrorCode
from ...shapes import Claims
from ..client import ClientState

#: Claims of one connection that may wait at once.
MOST = 16

Ask = Callable[[], Awaitable[Claims]]


class _Queue:
    """The claims of one channel that have found no job yet."""

    __slots__ = ("asking", "missed", "waiting")

    def __init__(self) -> None:
        #: Those that wait, in their order. A future becomes True when its claim should ask again, and False at its deadline.
        self.waiting: dict[asyncio.Future[bool], ClientState] = {}
        #: Claims that the database works on now, and jobs that became ready meanwhile. Their answers may be older.
        self.asking = self.missed = 0


class Waits:
    """Lets claims wait until a job is ready or their time is over. All calls come from the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[int, _Queue] = {}
        self._of: dict[ClientState, int] = {}
        self._ended = False

    @property
    def waiting(self) -> int:
        """The number of claims that wait."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def channel_ids(self) -> list[int]:
        """The channels for whose jobs claims wait."""
        return [channel_id for channel_id, queue in self._queues.items() if queue.waiting]

    def looked_for(self, channel_id: int) -> bool:
        """Return whether any claim looks for a job of a channel now."""
        return channel_id in self._queues

    async def claim(self, client: ClientState, channel_id: int, ask: Ask, seconds: float) -> Claims:
        """Call ``ask`` until it has jobs, or ``seconds`` are over, and return its last answer. Raises what ``ask`` raises.

        Raises ``BusError`` LIMIT_REACHED where the client waits too often already.
        """
        if seconds and self._of.get(client, 0) >= MOST:
            metrics.limits.labels("waiting_claims").inc()
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"{MOST} claims of this connection wait already.",
                [{"limit": "waiting_claims", "value": MOST}],
            )
        deadline = self._loop.time() + seconds
        queue = self._queues.setdefault(channel_id, _Queue())
        if seconds:
            self._of[client] = self._of.get(client, 0) + 1
        try:
            while True:
                claimed = await self._ask(queue, ask)
                if claimed.claims:
                    # Claims that ask now get theirs without being woken.
                    self._wake(queue, claimed.ready - queue.asking)
                    return claimed
                if queue.missed:
                    queue.missed -= 1
                    continue
                if not await self._woken(queue, client, deadline):
                    return claimed
        finally:
            if seconds:
                self._forget(client)
            if not queue.waiting and not queue.asking and self._queues.get(channel_id) is queue:
                del self._queues[channel_id]

    async def _ask(self, queue: _Queue, ask: Ask) -> Claims:
        queue.asking += 1
        try:
            return await ask()
        finally:
            queue.asking -= 1
            if not queue.asking and not queue.waiting:
                # Nobody else is left who might have missed them. The caller looks first.
                queue.missed = min(queue.missed, 1)

    async def _woken(self, queue: _Queue, client: ClientState, deadline: float) -> bool:
        """Wait. Return False at the deadline, when the process stops, and for a client that has left."""
        if self._ended or client.ending or deadline <= self._loop.time():
            return False
        woken: asyncio.Future[bool] = self._loop.create_future()
        timer = self._loop.call_at(deadline, _settle, woken, False)
        queue.waiting[woken] = client
        try:
            return await woken
        finally:
            timer.cancel()
            queue.waiting.pop(woken, None)

    def _forget(self, client: ClientState) -> None:
        left = self._of.pop(client, 1) - 1
        if left:
            self._of[client] = left

    # --- what wakes them --------------------------------------------------------------------------------------------------

    def ready(self, channels: Iterable[tuple[int, int]]) -> None:
        """Let claims ask again: as many of each channel as jobs became ready in it."""
        for channel_id, jobs in channels:
            queue = self._queues.get(channel_id)
            if queue is not None:
                left = self._wake(queue, jobs)
                queue.missed = min(queue.missed + left, queue.asking)

    def _wake(self, queue: _Queue, jobs: int) -> int:
        """Wake the oldest claims. Return how many jobs are left over."""
        for woken in list(queue.waiting):
            if jobs <= 0:
                break
            del queue.waiting[woken]
            jobs -= _settle(woken, True)
        return max(jobs, 0)

    def left(self, client: ClientState) -> None:
        """End the waits of a connection that has closed."""
        if client in self._of:
            for queue in self._queues.values():
                for woken in [woken for woken, waits in queue.waiting.items() if waits is client]:
                    _settle(woken, False)

    def end(self) -> None:
        """Answer all of them with what they have, because the process stops. None waits from now on."""
        self._ended = True
        for queue in self._queues.values():
            for woken in list(queue.waiting):
                _settle(woken, False)


def _settle(woken: asyncio.Future[bool], value: bool) -> bool:
    """Give a wait its result. Return False where it has one."""
    if woken.done():
        return False
    woken.set_result(value)
    return True
