"""Threads for the database, each with a connection of its own that is given back at the end, and how work is done in them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import DataError, InterfaceError, OperationalError, connection
from django.db import Error as DatabaseError

from ..db import faults as database
from ..protocol.errors import BusError, ErrorCode

#: How long the threads wait for one another at the end, in seconds; one that is at work then closes when it is done.
TOGETHER = 1.0


class DatabaseThreads(ThreadPoolExecutor):
    """``size`` threads. Django's connections belong to their thread: nobody else can close them, and one that is merely
    forgotten with its thread never goes back to the pool of connections."""

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size, name)
        self._size = size

    def end(self) -> list[Future[None]]:
        """Take no more work, and close each thread's connection after what is queued; the futures tell when."""
        all_here = threading.Barrier(self._size)

        def close() -> None:
            try:
                # So that every thread takes one of the calls, and none takes two.
                all_here.wait(TOGETHER)
            except threading.BrokenBarrierError:
                pass
            finally:
                connection.close()

        closing = [self.submit(close) for _ in range(self._size)]
        self.shutdown(wait=False)
        return closing


def database_call(function: Callable[..., Any], *args: Any) -> Any:
    """Run ``function`` in a thread of the node's own, which keeps its connection while it works."""
    database.begin()
    try:
        return function(*args)
    except DatabaseError as problem:
        # Whatever is wrong with it, the next call begins with a fresh connection.
        database.give_back(problem)
        raise


def database_read(function: Callable[..., Any], *args: Any) -> Any:
    """As :func:`database_call`, once more where a kept connection had died (the database was restarted since)."""
    database.begin()
    kept = connection.connection is not None
    try:
        return function(*args)
    except (OperationalError, InterfaceError) as problem:
        database.give_back(problem)
        if not kept:
            raise
    except DatabaseError as problem:
        database.give_back(problem)
        raise
    return database_call(function, *args)


def unavailable() -> BusError:
    """What a client is told when the database does not answer."""
    return BusError(ErrorCode.UNAVAILABLE, "The message store does not answer. Try again.", retry_after=1.0)


def store_error(problem: DatabaseError) -> BusError:
    """What a client is told of a failure of the database: it is away, or took no value that got past every rule before it."""
    if isinstance(problem, DataError):
        return BusError(
            ErrorCode.VALIDATION_ERROR, "A value cannot be kept: a number too large, or a character of no text."
        )
    return unavailable()
