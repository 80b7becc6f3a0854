"""``manage.py import_history FILE``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from ...auth.permissions import SYSTEM
from ...services import archive
from ..base import StoreCommand, progress


class Command(StoreCommand):
    """Reads what ``export_history`` wrote into empty channels; a second run goes on where the first one ended."""

    help = (
        "Read the messages of an export into their channels, with their own seq and time. A channel takes them when it is "
        "empty; run it again after an interruption."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("file", type=Path, metavar="FILE", help="What export_history wrote.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read it. Raises ``CommandError``."""
        path: Path = options["file"]
        done = 0
        try:
            with path.open("rb") as file, progress(path.stat().st_size, "bytes") as bar:
                for part in archive.take_in(SYSTEM, _numbered(file), door="command"):
                    done += part
                    bar.update(file.tell() - bar.n)
        except archive.Refused as problem:
            raise CommandError(f"{problem} {done} messages before it are there.") from None
        except OSError as problem:
            raise CommandError(f"{path} cannot be read: {problem.strerror}.") from None
        self.stdout.write(f"{done} messages are there.")


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers; of a line without an end only as much as shows that it is too long."""
    number = 0
    while line := file.readline(archive.LONGEST_LINE + 1):
        number += 1
        yield number, line
