"""``manage.py import_history FILE``: read an export into empty channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from ...auth.permissions import SYSTEM
from ...services import archive
from ..base import StoreCommand, progress


class Command(StoreCommand):
    """Read a file of ``export_history`` into empty channels. A second run continues an interrupted one."""

    help = (
        "Read the messages of an export into their channels, with their seq and time. The channels must be empty. "
        "If the import was interrupted, run it again: it continues."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("file", type=Path, metavar="FILE", help="A file of export_history.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read the file. Raises ``CommandError``."""
        path: Path = options["file"]
        done = 0
        try:
            with path.open("rb") as file, progress(path.stat().st_size, "bytes") as bar:
                for part in archive.take_in(SYSTEM, _numbered(file), door="command"):
                    done += part
                    bar.update(file.tell() - bar.n)
        except archive.Refused as problem:
            raise CommandError(f"{problem} The {done} messages before it are imported.") from None
        except OSError as problem:
            raise CommandError(f"Cannot read {path}: {problem.strerror}.") from None
        self.stdout.write(f"Imported {done} messages.")


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers. A too long line is cut where its length becomes an error."""
    number = 0
    while line := file.readline(archive.LONGEST_LINE + 1):
        number += 1
        yield number, line
