"""An event loop in a thread, for the blocking client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from .connection import FORKED
from .errors import BusClosed

T = TypeVar("T")


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        #: Whether the loop takes no more work. Under the lock, so that no work comes after the end and waits for ever.
        self._stopped = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="arqonbus", daemon=True)
        self._thread.start()

    @property
    def elsewhere(self) -> bool:
        """Whether this is a child process. A fork does not copy threads."""
        return os.getpid() != self._process

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        # Threads wait for this work. They get ``BusClosed``.
        if unfinished := asyncio.all_tasks(self._loop):
            for task in unfinished:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(unfinished))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result. Raises ``RuntimeError`` if the loop's thread is gone."""
        if self.elsewhere:
            work.close()
            raise RuntimeError(FORKED)
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "A listener of this bus must not call the bus: both run in the same thread, so the call would never return."
            )
        with self._lock:
            if self._stopped:
                work.close()
                raise BusClosed("The bus is closed.")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise BusClosed("The bus is closed.") from None
        except BaseException:
            # After Ctrl+C the coroutine must not continue by itself.
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread."""
        if self.elsewhere:
            return
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def each(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Yield what an asynchronous generator yields, and close it at the end."""
        try:
            while True:
                try:
                    yield self.call(_next(source))
                except _End:
                    return
        finally:
            if not self.elsewhere:
                with suppress(BusClosed):  # Then the loop has closed it.
                    self.call(_closed(source))


class _End(Exception):
    """An asynchronous iterator has ended. Its own exception cannot pass through a future."""


async def _next(source: Any) -> Any:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _End from None


async def _closed(source: Any) -> None:
    await source.aclose()
