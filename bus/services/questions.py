"""A limit on the database's work for one question, such as a page of a list. Sockets and REST use it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, TypeVarTuple

from django.db import OperationalError, connection, transaction

from ..protocol.errors import BusError, ErrorCode

Args = TypeVarTuple("Args")
Result = TypeVar("Result")

#: Seconds that the database may work on one statement of a question (on SQLite: on the whole question).
LONGEST_QUESTION = 10.0
#: Steps of SQLite's virtual machine between two checks of the time.
_SQLITE_STEPS = 100_000


def bounded(function: Callable[[*Args], Result], *args: *Args) -> Result:
    """Call ``function``, which must only read, with a limit on the database's work. Return its result.

    Raises ``BusError`` UNAVAILABLE above :data:`LONGEST_QUESTION`. PostgreSQL may read for minutes while it has no
    statistics of rows that were inserted a moment ago.
    """
    limit = _postgresql_limit if connection.vendor == "postgresql" else _sqlite_limit
    try:
        with limit():
            return function(*args)
    except OperationalError as problem:
        if not _took_too_long(problem):
            raise
        text = f"The database needs more than {LONGEST_QUESTION:g} seconds for the answer. Try again later, or ask for less."
        raise BusError(ErrorCode.UNAVAILABLE, text, retry_after=1.0) from None


@contextmanager
def _postgresql_limit() -> Iterator[None]:
    # The setting needs a transaction: with a pooler, the next statement may run in another session.
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LONGEST_QUESTION * 1000:.0f}"])
        yield


@contextmanager
def _sqlite_limit() -> Iterator[None]:
    connection.ensure_connection()
    database: sqlite3.Connection = connection.connection
    end = time.monotonic() + LONGEST_QUESTION
    database.set_progress_handler(lambda: time.monotonic() > end, _SQLITE_STEPS)
    try:
        yield
    finally:
        database.set_progress_handler(None, 0)


def _took_too_long(problem: OperationalError) -> bool:
    """Return whether the database canceled the statement: ``query_canceled`` of PostgreSQL, or SQLite's interrupt."""
    cause = problem.__cause__
    interrupted = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
    return interrupted or getattr(cause, "sqlstate", None) == "57014"
