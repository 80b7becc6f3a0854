"""Gathers the work of many connections into one call of a database thread after another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """Calls ``work`` with all items of a loop turn, and then with those that came meanwhile.

    ``work`` returns an answer for each item. An exception among the answers is raised at its item's caller. An item whose
    caller was cancelled before its turn is left out. One call gets ``most`` items at most. Before each call ``turns`` more
    turns of the loop pass, in which it reads its sockets.
    """

    def __init__(
        self, executor: Executor, work: Callable[[Sequence[Item]], list[Any]], *, most: int = 500, turns: int = 0
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = executor
        self._work = work
        self._most = most
        self._turns = turns
        self._waiting: list[tuple[Item, asyncio.Future[Any]]] = []
        self._running = False

    def submit(self, item: Item) -> asyncio.Future[Any]:
        """Add an item. The future has its answer."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((item, future))
        if not self._running:
            self._running = True
            self._loop.call_soon(self._wait, self._turns)
        return future

    def unheard(self, item: Item, answer: Any) -> None:
        """Take the answer to an item whose caller has given up meanwhile."""

    def _wait(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._wait, turns - 1)
        else:
            self._start()

    def _start(self) -> None:
        # A cancelled caller has told its client that the operation failed, so it must not be done any more.
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
        for (item, future), answer in zip(group, answers, strict=True):
            if future.done():
                self.unheard(item, answer)
            elif isinstance(answer, BaseException):
                future.set_exception(answer)
                # Retrieved here, because a closed connection never retrieves it.
                future.exception()
            else:
                future.set_result(answer)
        self._wait(self._turns if self._waiting else 0)
