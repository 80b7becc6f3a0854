"""Work of many connections, gathered into one call in the database thread after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Hands the items of a loop turn, and those that come while a call runs, to ``work`` together.

    ``work`` gets a list and returns an answer for each item; an answer that is an exception is raised at its item's caller.
    An item whose caller was cancelled before its turn is left out.
    """

    def __init__(self, executor: Executor, work: Callable[[Sequence[Item]], list[Any]], *, most: int = 500) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._work = work
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Any]]] = []
        self._running = False

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """The item's answer, in time."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        # Nobody waits for some of them any more: whoever was told that it failed is not to find it done.
        waiting = [row for row in self._waiting if not row[1].done()]
        group, self._waiting = waiting[: self._most], waiting[self._most :]
        if not group:
            self._running = False
            return
        call = self._loop.run_in_executor(self._executor, self._work, [item for item, _ in group])
        call.add_done_callback(lambda done: self._finished(group, done))

    def _finished(self, group: list[tuple[Item, asyncio.Future[Any]]], done: asyncio.Future[list[Any]]) -> None:
        problem = asyncio.CancelledError() if done.cancelled() else done.exception()
        answers = [problem] * len(group) if problem is not None else done.result()
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
                # A connection that is gone does not ask for its answer.
                future.exception()
            else:
                future.set_result(answer)
        self._start()
