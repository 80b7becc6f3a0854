"""Standard input, line by line, beside an event loop that must not wait for it."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")


async def lines() -> AsyncIterator[str]:
    """Its lines without their ends. Raises ``ValueError`` for one that is not UTF-8."""
    # A file object of its own: a thread that still reads `sys.stdin` when the interpreter ends makes that abort. It is never
    # closed, which would wait for that thread too.
    source = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    number = 0
    while line := await _in_daemon(source.readline):
        number += 1
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise ValueError(f"line {number} of standard input is not UTF-8") from None


async def _in_daemon(function: Callable[[], T]) -> T:
    """Call it in a thread that nobody waits for at the end: Ctrl+C ends the command, though the terminal gave no line."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, problem: BaseException | None) -> None:
        if done.cancelled():
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
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, problem)

    threading.Thread(target=work, daemon=True, name="arqonbus-stdin").start()
    return await done
