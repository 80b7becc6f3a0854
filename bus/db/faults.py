"""Faults of the database: their words, sessions that have become useless, and views outside of transactions."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.db import Error as DatabaseError

View = TypeVar("View", bound=Callable[..., Any])


def without_transaction(view: View) -> View:
    """Decorate an asynchronous view, so that a project's ``ATOMIC_REQUESTS`` (of any database) does not apply to it.

    Django's transactions belong to a thread. Under ``ATOMIC_REQUESTS``, Django answers 500 instead of calling such a
    view.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


#: SQLSTATE of a server that refuses writes: a standby, or a primary that was demoted while its sessions stayed open.
READ_ONLY = "25006"
#: SQLSTATEs by which PostgreSQL, or a pooler in front of it, reports that the session is useless for any statement. The
#: server is the wrong one, stops, starts, or lost the database. Class 08 is that of connection errors.
_OF_NO_USE = frozenset({READ_ONLY, "57P01", "57P02", "57P03", "57P04", "57P05"})
_CONNECTIONS = "08"

#: SQLSTATEs of transactions that PostgreSQL rolled back in favour of another one.
_UNDONE = frozenset({"40001", "40P01"})
#: SQLSTATEs of a statement that was cancelled after its time, and of a lock that was not available in time.
_TOO_SLOW = frozenset({"57014", "55P03"})
#: SQLite's result codes for a lock of another connection, also one that makes a transaction's reads too old to write.
_SQLITE_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

#: The shortest time in seconds between two renewals of all sessions of a pool.
_DRAINS = 1.0


class _Sessions:
    """Remembers which sessions may still be used: those opened after the last change of the server."""

    def __init__(self) -> None:
        self._turn = 0
        self._drained_at = -_DRAINS
        self._lock = threading.Lock()
        self._seen = threading.local()

    def distrust(self, pool: Any) -> None:
        """Note that the server changed. Every earlier session leads to the old server, even if it only reads.

        Sessions of the ``pool`` are opened anew (None: there is no pool).
        """
        with self._lock:
            now = time.monotonic()
            if now - self._drained_at < _DRAINS:
                return
            self._drained_at = now
            self._turn += 1
        if pool is not None:
            pool.drain()

    def old(self) -> bool:
        """Return whether the calling thread's persistent session may lead to the old server.

        A thread gets True once for each change of the server.
        """
        before = getattr(self._seen, "turn", self._turn)
        self._seen.turn = self._turn
        return bool(before != self._turn)


_sessions = _Sessions()


def state_of(problem: BaseException | None) -> str:
    """Return the SQLSTATE of an error of Django or of the driver; "" where it has none."""
    for said in (problem, getattr(problem, "__cause__", None)):
        state = getattr(said, "sqlstate", None)
        if state:
            return str(state)
    return ""


def of_no_use(problem: BaseException | None) -> bool:
    """Return whether the error means that the session is useless, rather than the statement wrong."""
    state = state_of(problem)
    return state in _OF_NO_USE or state.startswith(_CONNECTIONS)


def outrun(problem: BaseException | None) -> bool:
    """Return whether another transaction was first, so that the same one may succeed when it is run again."""
    code = getattr(getattr(problem, "__cause__", None), "sqlite_errorcode", 0)
    return state_of(problem) in _UNDONE or code & 0xFF in _SQLITE_BUSY


def too_slow(problem: BaseException | None) -> bool:
    """Return whether PostgreSQL ended a statement that ran, or waited for a lock, for too long."""
    return state_of(problem) in _TOO_SLOW


def give_back(problem: BaseException | None = None) -> None:
    """Give the calling thread's connection back, after the error ``problem`` if there was one.

    A useless session is closed first. Otherwise a pool could hand it out again for an hour.
    """
    wrapper: Any = connection
    if of_no_use(problem):
        session = wrapper.connection
        if session is not None:
            session.close()
        if state_of(problem) == READ_ONLY:
            _sessions.distrust(getattr(wrapper, "pool", None))
    if not wrapper.in_atomic_block:
        wrapper.close()


def begin() -> None:
    """Close the calling thread's persistent connection if it leads to an old server.

    A thread with such a connection calls this before each use.
    """
    if _sessions.old() and not connection.in_atomic_block:
        connection.close()


def check_writing() -> None:
    """Raise the database's error if it refuses writes.

    The check only asks PostgreSQL for its mode. A full disk shows only in a real write.
    """
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        row = cursor.fetchone()
    if row is None or row[0] != "off":
        wrapper: Any = connection
        # The error is the one of a real write, so that callers also close the session in the same way.
        refused: Exception = wrapper.Database.errors.ReadOnlySqlTransaction("the session is read-only")
        raise OperationalError(str(refused)) from refused


def in_words(problem: BaseException) -> str:
    """Return one line for the operator: the database's message and what to do about it."""
    reason = one_line(problem)
    if state_of(problem) == READ_ONLY or "session is read-only" in reason:
        return f"The database refuses writes ({reason}). Point DATABASE_URL to the primary, or promote this server."
    if "readonly database" in reason or "disk is full" in reason:
        return f"The database cannot be written ({reason}). Free space on its disk, or correct the permissions of its file."
    if isinstance(problem, ProgrammingError) or "no such table" in reason or "no such column" in reason:
        return f"The database lacks the bus's tables ({reason}). Run `manage.py migrate` first."
    if isinstance(problem, (DataError, IntegrityError)):
        return f"The database refused a row ({reason})."
    return f"The database does not answer ({reason}). Start it, or correct DATABASE_URL."


def one_line(problem: BaseException) -> str:
    """Return the database's message without its hints."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def first_hand(problem: DatabaseError) -> DatabaseError:
    """Return the database's own error in place of a timeout of the connection pool.

    After such a timeout, the function connects once more without the pool, which takes at most the time to connect. It
    returns ``problem`` if that succeeds, and for every other error.
    """
    if type(problem.__cause__).__name__ != "PoolTimeout":
        return problem
    wrapper: Any = connection
    try:
        wrapper.Database.connect(**wrapper.get_connection_params()).close()
    except wrapper.Database.Error as said:
        return OperationalError(str(said))
    return problem
