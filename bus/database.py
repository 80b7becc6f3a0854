"""What is wrong with the database, in words that say what to do; and the views that want nothing of it."""

from __future__ import annotations

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


def in_words(problem: BaseException) -> str:
    """One line for whoever runs the server: what the database said, and what to do about it."""
    reason = one_line(problem)
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
