"""How long a transaction waits for the locks of others (PostgreSQL)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from django.db import DataError, IntegrityError, OperationalError, connection

from ..log import Contended

Item = TypeVar("Item")
Result = TypeVar("Result")

#: SQLSTATE of a lock that was not available in time.
LOCKED = "55P03"
#: The shortest time that PostgreSQL can wait for a lock, in seconds.
SHORTEST = 0.001


class Patience:
    """How long all transactions of one group wait for locks, in seconds of ``clock``.

    Together they wait for ``seconds``. For ``retries`` seconds more, they may find out which of the group need the locks.
    """

    def __init__(self, seconds: float, retries: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = clock() + seconds
        self._end = self._until + retries

    @property
    def left(self) -> float:
        """The seconds that the next transaction may wait for a lock."""
        return max(self._until - self._clock(), SHORTEST)

    @property
    def over(self) -> bool:
        """Whether there is no time left to find out more."""
        return self._clock() > self._end


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
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{max(1, round(seconds * 1000))}ms"])
    try:
        yield
    finally:
        if not connection.needs_rollback:
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def is_locked(problem: Exception) -> bool:
    """Return whether a lock of another transaction was the cause."""
    if isinstance(problem, Contended):
        return True
    return isinstance(problem, OperationalError) and getattr(problem.__cause__, "sqlstate", None) == LOCKED


def in_pieces(
    items: Sequence[Item],
    write: Callable[[Sequence[Item], float], Result],
    patience: Patience,
    needs: Callable[[Item], int] = lambda _: 0,
) -> list[tuple[Sequence[Item], Result | None]]:
    """Write the items in one transaction, or in as few as leave out those that cannot be written.

    ``write`` writes some of them in a transaction that waits for a lock for so many seconds. After a lock was met, items go
    first of which ``needs`` says that they need fewer locks. Returns the pieces, each with the result of ``write``, or with None
    where a lock was not free. Raises what ``write`` raises for a single item, and the database's error if the database fails.
    """
    try:
        return [(items, write(items, patience.left))]
    except (IntegrityError, DataError, OperationalError, Contended) as problem:
        if is_locked(problem):
            if len(items) <= 1 or patience.over:
                return [(items, None)]
            items = sorted(items, key=needs)
        elif len(items) <= 1 or isinstance(problem, OperationalError):
            raise
    middle = len(items) // 2
    return in_pieces(items[:middle], write, patience, needs) + in_pieces(items[middle:], write, patience, needs)
