"""Blocking calls that may never return, beside an event loop. The process does not wait for them at its end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon(function: Callable[[], T], name: str) -> T:
    """Run a blocking function in a new daemon thread. Returns its result or raises its error.

    Neither the event loop nor the interpreter waits at its end for a function that hangs. An executor would wait.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, problem: BaseException | None) -> None:
        if done.done():
            return
        if problem is not None:
            done.set_exception(problem)
        else:
            done.set_result(result)  # type: ignore[arg-type] # without a problem there is a result

    def work() -> None:
        try:
            result, problem = function(), None
        except Exception as failure:  # noqa: BLE001 - raised where it is awaited
            result, problem = None, failure
        try:
            loop.call_soon_threadsafe(settle, result, problem)
        except RuntimeError:
            return  # The loop has ended in the meantime.

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True, name=name).start()
    return await done
