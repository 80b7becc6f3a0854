"""Transactions on SQLite's own connection, below Django's wrappers.

Django's ``atomic`` costs more than the transaction of one small row. These transactions are for code that uses neither Django's
cursors nor its ORM.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def possible(wrapper: Any) -> bool:
    """Return whether the thread may open such a transaction on Django's connection ``wrapper``.

    It may not in a transaction of the caller, also one without ``atomic``, nor where somebody watches the statements through
    Django's wrappers. Raises the database's error.
    """
    return (
        wrapper.vendor == "sqlite"
        and not wrapper.in_atomic_block
        and wrapper.get_autocommit()
        and not wrapper.execute_wrappers
        and not wrapper.force_debug_cursor
    )


@contextmanager
def writing(wrapper: Any, before_commit: Callable[[], None] | None = None) -> Iterator[sqlite3.Cursor]:
    """Open a transaction for writing. It is committed at the end of the block, and rolled back after an exception.

    ``before_commit`` is called between the block and the commit; an exception from it rolls back, too. Raises Django's errors
    of the database.
    """
    wrapper.ensure_connection()
    with wrapper.wrap_database_errors:
        own: sqlite3.Connection = wrapper.connection
        cursor = own.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield cursor
            if before_commit is not None:
                before_commit()
            cursor.execute("COMMIT")
        except BaseException:
            _roll_back(wrapper, own)
            raise


def _roll_back(wrapper: Any, own: sqlite3.Connection) -> None:
    try:
        # SQLite itself has rolled back after some errors, such as a full disk.
        own.rollback()
    except sqlite3.Error:
        wrapper.close()
