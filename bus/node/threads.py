"""Threads for database work. Each keeps one connection and gives it back at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from django.db import DataError, InterfaceError, OperationalError, connection
from django.db import Error as DatabaseError

from ..db import faults as database
from ..protocol.errors import BusError, ErrorCode
from ..services.questions import bounded

Args = TypeVarTuple("Args")
Result = TypeVar("Result")

#: Seconds that the threads of a pool wait for one another at the end. A thread that still works closes when it is done.
TOGETHER = 1.0


class DatabaseThreads(ThreadPoolExecutor):
    """A pool of ``size`` threads that close their own database connections.

    A Django connection belongs to its thread. No other thread can close it, and a forgotten one never returns to the pool of
    connections.
    """

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size, name)
        self._size = size

    def end(self) -> list[Future[None]]:
        """Take no more work, and close each thread's connection after the queued work. Return futures of the closings."""
        all_here = threading.Barrier(self._size)

        def close() -> None:
            try:
                # Each thread waits here, so no thread can take two of the calls.
                all_here.wait(TOGETHER)
            except threading.BrokenBarrierError:
                pass
            finally:
                connection.close()

        closing = [self.submit(close) for _ in range(self._size)]
        self.shutdown(wait=False)
        return closing


def database_call(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Run ``function`` on this thread's kept connection. Raises the database's error, after which a new connection is made."""
    database.begin()
    try:
        return function(*args)
    except DatabaseError as problem:
        database.give_back(problem)
        raise


def database_read(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """As :func:`database_call`, but try once more where the kept connection had died, as after a restart of the database."""
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


def database_question(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """As :func:`database_read`, but with a bound on the database's work (:func:`bus.services.questions.bounded`)."""
    return database_read(bounded, function, *args)


def unavailable() -> BusError:
    """Return the error for a client while the database does not answer."""
    return BusError(ErrorCode.UNAVAILABLE, "The database does not answer. Try again.", retry_after=1.0)


def store_error(problem: DatabaseError) -> BusError:
    """Return the error for a client after a failure of the database.

    Either the database is away, or it refused a value that every earlier check had let through.
    """
    if isinstance(problem, DataError):
        return BusError(
            ErrorCode.VALIDATION_ERROR,
            "A value cannot be stored: a number is too large, or a text has an invalid character.",
        )
    return unavailable()
