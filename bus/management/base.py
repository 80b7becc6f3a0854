"""Base classes and helpers of the management commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from tqdm import tqdm

from ..db import faults as database
from ..protocol.errors import BusError


class StoreCommand(BaseCommand):
    """A command that works on the database. An error of the database or the bus is one line of output."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command. Raises ``CommandError``."""
        try:
            return super().execute(*args, **options)
        except DatabaseError as problem:
            raise CommandError(database.in_words(database.first_hand(problem))) from problem
        except BusError as problem:
            faults = [f"{fault['field']}: {fault['message']}" for fault in problem.details if "message" in fault]
            raise CommandError("\n".join(faults) or problem.message) from problem
        except ImproperlyConfigured as problem:
            raise CommandError(str(problem)) from problem

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of texts as columns below a heading."""
        widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        for row in (heading, *rows):
            self.stdout.write("  ".join(map(str.ljust, row, widths)).rstrip())


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """Open a text file that appears at ``path`` when it is complete. If writing fails, an older file stays.

    The path ``-`` is standard output. Raises ``CommandError`` if the file cannot be written.
    """
    if str(path) == "-":
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            yield file
        part.replace(path)
    except OSError as problem:
        raise CommandError(f"Cannot write {path}: {problem.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)


def progress(total: int, unit: str) -> tqdm[Any]:
    """Return a progress bar for ``total`` units of work. It shows only if standard error is a terminal."""
    return tqdm(total=total, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)


class DocumentCommand(BaseCommand):
    """A command that prints, writes or checks a document generated from the code."""

    #: The command's name, for the error that says how to update a document.
    name = ""
    requires_system_checks = []  # noqa: RUF012 - Django's own form

    def text(self, **options: Any) -> str:
        """Return the document. Each command overrides this."""
        raise NotImplementedError(f"{type(self).__name__} must define text().")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments of all document commands."""
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="Write the document to FILE instead of printing it."
        )
        parser.add_argument(
            "--check", type=Path, metavar="FILE", help="Write nothing. Exit with 1 if FILE is not up to date."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, write or check the document. Raises ``CommandError``."""
        text = self.text(**options)
        checked: Path | None = options["check"]
        if checked is not None:
            if not checked.exists() or checked.read_text(encoding="utf-8") != text:
                raise CommandError(f"{checked} is not up to date. Update it: manage.py {self.name} --output {checked}")
        elif options["output"] is not None:
            options["output"].write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
