"""The questions that a client has asked."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .messages import INBOX_ROOM

#: How many questions are remembered, so that a late reply is no message of the inbox.
REMEMBERED = 10_000


def is_question(frame: dict[str, Any]) -> bool:
    """Return whether a message asks."""
    return isinstance(frame.get("ask"), dict) and isinstance(frame.get("reply_to"), str)


def is_reply(frame: dict[str, Any]) -> bool:
    """Return whether a message is a reply. Nobody but the responder can put one into an inbox."""
    return (
        frame.get("type") == "reply"
        and frame.get("room") == INBOX_ROOM
        and isinstance(frame.get("to_message"), str)
        and isinstance(frame.get("correlation"), str)
    )


class Questions:
    """The questions that wait for their reply, and those that waited before."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._asked: OrderedDict[str, None] = OrderedDict()

    @contextmanager
    def asked(self, correlation: str) -> Iterator[asyncio.Future[dict[str, Any]]]:
        """Yield the future reply to a question. Raises ``ValueError`` if the same question waits already."""
        if correlation in self._waiting:
            raise ValueError(f"A question with the id {correlation} is already waiting for its reply.")
        self._asked[correlation] = None
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        future = self._waiting[correlation] = asyncio.get_running_loop().create_future()
        try:
            yield future
        finally:
            del self._waiting[correlation]
            if future.done() and not future.cancelled():
                future.exception()  # The question may have ended by another error before.

    def takes(self, frame: dict[str, Any]) -> bool:
        """Return whether a reply belongs to a question of this process."""
        return is_reply(frame) and frame["correlation"] in self._asked

    def waits(self, correlation: str) -> bool:
        """Return whether a question still waits."""
        return correlation in self._waiting and not self._waiting[correlation].done()

    def replied(self, frame: dict[str, Any]) -> None:
        """Handle a reply, which may be a repeated one."""
        future = self._waiting.get(frame["correlation"]) if is_reply(frame) else None
        if future is not None and not future.done():
            future.set_result(frame)

    def refused(self, correlation: str, problem: Exception) -> None:
        """Handle that a question ends without a reply."""
        future = self._waiting.get(correlation)
        if future is not None and not future.done():
            future.set_exception(problem)

    def fail(self, problem: Exception) -> None:
        """End all questions."""
        for correlation in self._waiting:
            self.refused(correlation, problem)
