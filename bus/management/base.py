"""What the bus's commands have in common."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
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


class DocumentCommand(BaseCommand):
    """A command that prints, writes or checks a document that is made from the code."""

    #: The command's own name, for the line that says how to renew a document.
    name = ""
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def text(self, **options: Any) -> str:
        """The document. Each command makes its own."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its document is.")

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("--output", type=Path, metavar="FILE", help="Write it to FILE instead of printing it.")
        parser.add_argument(
            "--check", type=Path, metavar="FILE", help="Write nothing; exit with 1 when FILE is not up to date."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for. Raises ``CommandError``."""
        text = self.text(**options)
        checked: Path | None = options["check"]
        if checked is not None:
            if not checked.exists() or checked.read_text(encoding="utf-8") != text:
                raise CommandError(f"{checked} is not up to date: manage.py {self.name} --output {checked}")
        elif options["output"] is not None:
            options["output"].write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
