"""How transactions begin: what a long one may lock before it writes, and how long its statements may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


@contextmanager
def deferred() -> Iterator[None]:
    """Let transactions of the calling thread that begin within the block lock nothing before their first write (SQLite).

    With IMMEDIATE, as the bus needs it elsewhere, a transaction that only waits would hold up all writers. On PostgreSQL
    nothing changes.
    """
    if connection.vendor != "sqlite":
        yield
        return
    wrapper: Any = connection
    # A new connection reads the mode from the settings.
    wrapper.ensure_connection()
    before = wrapper.transaction_mode
    wrapper.transaction_mode = "DEFERRED"
    try:
        yield
    finally:
        wrapper.transaction_mode = before


def limit_statements(seconds: float) -> None:
    """Let the database end each statement of the caller's transaction after ``seconds`` (PostgreSQL)."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(max(1, round(seconds * 1000)))])


def begin_writing() -> None:
    """Take the lock for writing in a deferred transaction of the caller (SQLite).

    Raises ``OperationalError`` if another transaction has written since the caller's read something.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("UPDATE bus_channel SET head = head WHERE 0")
