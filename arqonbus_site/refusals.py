"""Turn an error that stops the ready project into one line that says what to do, for every command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, ProgrammingError


@contextmanager
def one_line(*, traceback: bool = False) -> Iterator[None]:
    """End the process with status 1 and one line, for a wrong setting, or a missing database or table.

    With ``traceback`` the exception is raised unchanged.
    """
    try:
        yield
    except ImproperlyConfigured as problem:
        if traceback:
            raise
        sys.exit(str(problem))
    except (OperationalError, ProgrammingError) as problem:
        if traceback:
            raise
        from bus.db import faults as database

        sys.exit(database.in_words(database.first_hand(problem)))
