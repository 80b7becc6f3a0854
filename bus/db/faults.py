"""What is wrong with the database: in words, and whether it is the session that is; and the views that want nothing of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import Error as DatabaseError
from django.db import OperationalError, ProgrammingError, connection, connections, transaction

View = TypeVar("View", bound=Callable[..., Any])


def without_transaction(view: View) -> View:
    """Decorate an asynchronous view: ``ATOMIC_REQUESTS`` of a project, for any of its databases, is not for it.

    Django's transactions belong to a thread, so it answers 500 in the name of such a view instead.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


#: SQLSTATE of a server that takes no writes: a standby, or a primary that was demoted while its sessions lived on.
READ_ONLY = "25006"
#: SQLSTATEs by which PostgreSQL, or a pooler in front of it, says that this session is of no use, whatever is asked of it: the
#: server is the wrong one, ends, starts, or lost the database. The class 08 is that of connections.
_OF_NO_USE = frozenset({READ_ONLY, "57P01", "57P02", "57P03", "57P04", "57P05"})
_CONNECTIONS = "08"

#: Seconds between two times at which all sessions of a pool are made anew.
_DRAINS = 1.0


class _Sessions:
    """Which sessions are to be trusted: those made since the database was last found to be another server."""

    def __init__(self) -> None:
        self._turn = 0
        self._drained_at = -_DRAINS
        self._lock = threading.Lock()
        self._seen = threading.local()

    def distrust(self, pool: Any) -> None:
        """The server changed: every session from before leads to the old one, also where it only reads."""
        with self._lock:
            now = time.monotonic()
            if now - self._drained_at < _DRAINS:
                return
            self._drained_at = now
            self._turn += 1
        if pool is not None:
            pool.drain()

    def old(self) -> bool:
        """Whether the session that the calling thread keeps may lead to the old server; told once for each change."""
        before = getattr(self._seen, "turn", self._turn)
        self._seen.turn = self._turn
        return bool(before != self._turn)


_sessions = _Sessions()


def state_of(problem: BaseException | None) -> str:
    """The SQLSTATE of a database error, of Django's or of the driver's; "" where it has none."""
    for said in (problem, getattr(problem, "__cause__", None)):
        state = getattr(said, "sqlstate", None)
        if state:
            return str(state)
    return ""


def of_no_use(problem: BaseException | None) -> bool:
    """Whether the error says that the session is of no use, rather than the statement."""
    state = state_of(problem)
    return state in _OF_NO_USE or state.startswith(_CONNECTIONS)


def give_back(problem: BaseException | None = None) -> None:
    """Give the calling thread's connection back, after the error ``problem`` that it met, if any.

    A session that is of no use is ended first: else a pool would hand it out again, for an hour.
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
    """Called by a thread that keeps its connection, before it uses it: one that leads to the old server is given back."""
    if _sessions.old() and not connection.in_atomic_block:
        connection.close()


def check_writing() -> None:
    """Raises the database's error where it says that it takes no writes. A full disk is found by writing alone."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        row = cursor.fetchone()
    if row is None or row[0] != "off":
        wrapper: Any = connection
        # As if it had been tried, so that the session ends as one that was tried in vain.
        refused: Exception = wrapper.Database.errors.ReadOnlySqlTransaction("the session is read-only")
        raise OperationalError(str(refused)) from refused


def in_words(problem: BaseException) -> str:
    """One line for whoever runs the server: what the database said, and what to do about it."""
    reason = one_line(problem)
    if state_of(problem) == READ_ONLY or "session is read-only" in reason:
        return f"The database refuses writes ({reason}). Point DATABASE_URL to the primary, or promote this server."
    if "readonly database" in reason or "disk is full" in reason:
        return f"The database cannot be written ({reason}). Free space on its disk, or correct the permissions of its file."
    if isinstance(problem, ProgrammingError) or "no such table" in reason or "no such column" in reason:
        return f"The database lacks the bus's tables ({reason}). Run `manage.py migrate` first."
    return f"The database does not answer ({reason}). Start it, or correct DATABASE_URL."


def one_line(problem: BaseException) -> str:
    """What the database said, without its hints."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0]


def first_hand(problem: DatabaseError) -> DatabaseError:
    """What the database itself says, where the pool of connections only tells that it waited in vain.

    Then it connects once more, past the pool, which takes the time to connect at most; else ``problem`` is the answer.
    """
    if type(problem.__cause__).__name__ != "PoolTimeout":
        return problem
    wrapper: Any = connection
    try:
        wrapper.Database.connect(**wrapper.get_connection_params()).close()
    except wrapper.Database.Error as said:
        return OperationalError(str(said))
    return problem
