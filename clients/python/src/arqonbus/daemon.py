"""Calls that may never return, beside an event loop: nobody waits for them at the end of the process."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon(function: Callable[[], T], name: str) -> T:
    """Call a blocking function in a daemon thread of its own, and return or raise what it does.

    Unlike with an executor, neither the event loop nor the interpreter waits at its end for a function that hangs.
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
            return  # The loop has ended meanwhile.

    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True, name=name).start()
    return await done
