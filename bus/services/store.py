"""What is wrong with the database, in words that say what to do."""

from __future__ import annotations

from django.db import Error as DatabaseError
from django.db import ProgrammingError


def in_words(problem: DatabaseError) -> str:
    """One line for whoever runs the server: what the database said, and what to do about it."""
    reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    if isinstance(problem, ProgrammingError) or "no such table" in reason or "no such column" in reason:
        return f"The database lacks the bus's tables ({reason}). Run `manage.py migrate` first."
    return f"The database does not answer ({reason}). Start it, or correct DATABASE_URL."
