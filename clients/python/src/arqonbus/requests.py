"""Unanswered requests, and the rate of new ones."""

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
    """Limit a block to some seconds (None: no limit). Raises ``TimeoutError`` with ``text`` when they are over."""
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
    #: Whether the request may be sent twice. True for publishes (their id makes a repeat harmless) and for reads and joins.
    repeat: bool
    future: asyncio.Future[dict[str, Any]]
    #: Called with a positive answer at once, before the next frame is handled.
    on_answer: Callable[[dict[str, Any]], None] | None = None
    sent: bool = False
    #: Whether the request may be sent twice on one connection. Its late answers then do no harm.
    again: bool = False


class Requests:
    """The unanswered requests, in their order."""

    def __init__(self) -> None:
        self._waiting: dict[str, Pending] = {}
        self.repeating = False

    def add(self, pending: Pending) -> None:
        """Add a request. Raises ``ValueError`` if another one with the same id waits."""
        if pending.id in self._waiting:
            raise ValueError(f"A request with the id {pending.id} is already waiting for its answer.")
        self._waiting[pending.id] = pending

    def remove(self, pending: Pending) -> None:
        """Stop waiting for an answer."""
        if self._waiting.get(pending.id) is pending:
            del self._waiting[pending.id]

    def answer(self, request_id: str, frame: dict[str, Any]) -> bool:
        """Handle an answer. Returns False if no request waits for it, such as for the second answer of a repeat."""
        pending = self._waiting.get(request_id)
        if pending is None or pending.future.done():
            return False
        failed = frame.get("type") == "error" or frame.get("status") == "error"
        if failed:
            error = frame.get("error")
            if pending.repeat and isinstance(error, dict) and error.get("code") == "RESTARTING":
                return True  # The server refused it and will close the connection. The next connection sends it again.
            pending.future.set_exception(from_error(error if isinstance(error, dict) else {}))
            return True
        if pending.on_answer is not None:
            pending.on_answer(frame)
        pending.future.set_result(frame)
        return True

    def repeatable(self, *, same: bool = False) -> list[Pending]:
        """Return the requests to send again on a new connection, or on the ``same`` one, oldest first."""
        waiting = [pending for pending in self._waiting.values() if not pending.future.done()]
        return [pending for pending in waiting if pending.repeat or (same and pending.again and pending.sent)]

    def break_unsafe(self, error: Exception) -> None:
        """Handle a broken connection. Sent requests that must not be repeated get an unknown outcome."""
        for pending in list(self._waiting.values()):
            if pending.sent and not pending.repeat and not pending.future.done():
                pending.future.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        """End all waiting requests with an error."""
        for pending in list(self._waiting.values()):
            if not pending.future.done():
                pending.future.set_exception(error)


class Pacer:
    """Keeps the client below the server's limit of frames a second, which the welcome frame names."""

    #: The used share of the limit.
    SHARE = 0.9

    def __init__(self) -> None:
        self.frame_bytes = 0
        self._rate = 0.0
        self._level = 0.0
        self._updated = time.monotonic()
        self._held_until = 0.0

    def limit(self, rate: Any, frame_bytes: Any) -> None:
        """Set the server's limits. A rate of 0 means no limit."""
        self._rate = self.SHARE * rate if isinstance(rate, (int, float)) and rate > 0 else 0.0
        self._level = self._rate
        self._updated = time.monotonic()
        self.frame_bytes = frame_bytes if isinstance(frame_bytes, int) else 0

    def hold(self, seconds: float) -> None:
        """Send nothing for some seconds."""
        self._held_until = max(self._held_until, time.monotonic() + seconds)
        self._level = 0.0

    async def turn(self) -> None:
        """Wait until one frame may be sent."""
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
