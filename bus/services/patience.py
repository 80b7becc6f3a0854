"""How long a transaction waits for the locks of others (PostgreSQL)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection

#: SQLSTATE of a lock that was not available in time.
LOCKED = "55P03"


@contextmanager
def own_patience(seconds: float) -> Iterator[None]:
    """Wait no longer than ``seconds`` for a lock in a caller's transaction, which keeps its ``lock_timeout`` afterwards.

    Without such a transaction nothing changes.
    """
    if not connection.in_atomic_block or connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        (before,) = cursor.fetchone()
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{seconds}s"])
    try:
        yield
    finally:
        if not connection.needs_rollback:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def is_locked(problem: OperationalError) -> bool:
    """Return whether a lock of another transaction was the cause."""
    return getattr(problem.__cause__, "sqlstate", None) == LOCKED
