"""``arqonbus-server COMMAND`` and ``python -m arqonbus_site COMMAND``: ``manage.py`` for who installed the package."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Run a management command. A database that is away, or lacks tables, is one line and status 1 (`--traceback` shows all)."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "arqonbus_site.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError, ProgrammingError

    try:
        execute_from_command_line(list(arguments))
    except (OperationalError, ProgrammingError) as problem:
        if "--traceback" in arguments:
            raise
        from bus import database

        sys.exit(database.in_words(database.first_hand(problem)))


def main() -> None:
    """Run a management command; without one, list them."""
    run(["arqonbus-server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
