"""What the bus's commands have in common."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from .. import database


class StoreCommand(BaseCommand):
    """A command that works on the database: one that is away, or has no tables yet, is said in one line."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it. Raises ``CommandError``."""
        try:
            return super().execute(*args, **options)
        except DatabaseError as problem:
            raise CommandError(database.in_words(database.first_hand(problem))) from problem
