"""What was asked and not yet answered, and how fast one may ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from .errors import from_error


@asynccontextmanager
async def within(seconds: float | None, text: str) -> AsyncIterator[None]:
    """A block that may take so many seconds (None: for ever). Raises ``TimeoutError`` with ``text`` when it took longer."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimeoutError(text) from None


@dataclass(eq=False)
class Pending:
    """A request that waits for its answer."""

    id: str
    text: str
    #: Whether it may be sent twice: publishes (their id makes it one message) and commands that read or join.
    repeat: bool
    future: asyncio.Future[dict[str, Any]]
    #: Called with a good answer at once, before the next frame is looked at.
    on_answer: Callable[[dict[str, Any]], None] | None = None
    sent: bool = False


class Requests:
    """The unanswered requests, in the order in which they were made."""

    def __init__(self) -> None:
        self._waiting: dict[str, Pending] = {}
        self.repeating = False

    def add(self, pending: Pending) -> None:
        """Wait for an answer. Raises ``ValueError`` when a request of the same id waits already."""
        if pending.id in self._waiting:
            raise ValueError(f"a request with the id {pending.id} is on its way")
        self._waiting[pending.id] = pending

    def remove(self, pending: Pending) -> None:
        """Wait no more."""
        if self._waiting.get(pending.id) is pending:
            del self._waiting[pending.id]

    def answer(self, request_id: str, frame: dict[str, Any]) -> None:
        """An answer came; one that nobody waits for (a repeat's second one) is dropped."""
        pending = self._waiting.get(request_id)
        if pending is None or pending.future.done():
            return
        failed = frame.get("type") == "error" or frame.get("status") == "error"
        if failed:
            error = frame.get("error")
            if pending.repeat and isinstance(error, dict) and error.get("code") == "RESTARTING":
                return  # Not taken, and the connection ends in a moment: the next one sends it again.
            pending.future.set_exception(from_error(error if isinstance(error, dict) else {}))
            return
        if pending.on_answer is not None:
            pending.on_answer(frame)
        pending.future.set_result(frame)

    def repeatable(self) -> list[Pending]:
        """What is sent again on a new connection, oldest first."""
        return [pending for pending in self._waiting.values() if pending.repeat and not pending.future.done()]

    def break_unsafe(self, error: Exception) -> None:
        """The connection went: requests that were sent and must not be repeated have an unknown outcome."""
        for pending in list(self._waiting.values()):
            if pending.sent and not pending.repeat and not pending.future.done():
                pending.future.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        """There will be no more answers."""
        for pending in list(self._waiting.values()):
            if not pending.future.done():
                pending.future.set_exception(error)


class Pacer:
    """Keeps below the server's limit of frames a second (welcome frame), so that it need not refuse any."""

    #: The share of the limit that is used.
    SHARE = 0.9

    def __init__(self) -> None:
        self.frame_bytes = 0
        self._rate = 0.0
        self._level = 0.0
        self._updated = time.monotonic()
        self._held_until = 0.0

    def limit(self, rate: Any, frame_bytes: Any) -> None:
        """The server's limits; a rate of 0 means none."""
        self._rate = self.SHARE * rate if isinstance(rate, (int, float)) and rate > 0 else 0.0
        self._level = self._rate
        self._updated = time.monotonic()
        self.frame_bytes = frame_bytes if isinstance(frame_bytes, int) else 0

    def hold(self, seconds: float) -> None:
        """Send nothing for so long."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self._level = 0.0

    async def turn(self) -> None:
        """Wait for the turn of one frame."""
        while (held := self._held_until - time.monotonic()) > 0:  # noqa: ASYNC110 - a time is awaited, no condition
            await asyncio.sleep(held)
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._level = min(self._rate, self._level + (now - self._updated) * self._rate)
        self._updated = now
        self._level -= 1.0
        if self._level < 0:
            await asyncio.sleep(-self._level / self._rate)
