"""What the bus's commands have in common."""

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
    """A command that works on the database: what keeps it from its work, or what the bus refuses, is one line."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run it. Raises ``CommandError``."""
        try:
            return super().execute(*args, **options)
        except DatabaseError as problem:
            raise CommandError(database.in_words(database.first_hand(problem))) from problem
        except BusError as problem:
            raise CommandError(problem.message) from problem
        except ImproperlyConfigured as problem:
            raise CommandError(str(problem)) from problem

    def table(self, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows of texts as columns below a heading."""
        widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
        for row in (heading, *rows):
            self.stdout.write("  ".join(map(str.ljust, row, widths)).rstrip())


@contextmanager
def written_whole(path: Path) -> Iterator[IO[str]]:
    """A text file to write to, which is at ``path`` once it is whole: what was there stays if the writing fails.

    The path ``-`` is standard output.

    Raises ``CommandError`` for a file that cannot be written.
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
        raise CommandError(f"{path} cannot be written: {problem.strerror}.") from None
    finally:
        part.unlink(missing_ok=True)


def progress(total: int, unit: str) -> tqdm[Any]:
    """A progress bar on a terminal's standard error for work of ``total`` units; nothing where there is no terminal."""
    return tqdm(total=total, unit=f" {unit}", disable=None, leave=False, dynamic_ncols=True)


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
