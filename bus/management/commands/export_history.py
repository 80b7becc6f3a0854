"""``manage.py export_history [ADDRESS …] --output FILE``: write messages as JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from ...services import archive
from ..base import StoreCommand, progress, written_whole


class Command(StoreCommand):
    """Write stored messages as JSON Lines. It may run beside servers."""

    help = (
        "Write the stored messages of channels to a file, one JSON object a line, oldest first in each channel. "
        "Without an address it exports all channels, but no inboxes. It is safe while the bus runs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="A channel (room:channel) or a whole room.")
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FILE", help="The file to write. - means standard output."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the file. Raises ``CommandError``."""
        channels = list(archive.channels_of(options["addresses"]))
        written = 0
        with written_whole(options["output"]) as file, progress(archive.count(channels), "messages") as bar:
            for channel in channels:
                for line in archive.lines(channel):
                    file.write(f"{line}\n")
                    written += 1
                    bar.update()
        if str(options["output"]) != "-":
            self.stdout.write(f"Wrote {written} messages of {len(channels)} channels to {options['output']}.")
