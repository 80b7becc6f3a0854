"""``manage.py export_history [ADDRESS …] --output FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from ...services import archive
from ..base import StoreCommand, progress, written_whole


class Command(StoreCommand):
    """Writes kept messages as JSON Lines; may run while servers run."""

    help = (
        "Write the kept messages of channels to a file, one JSON object a line, oldest first in each channel. "
        "Without an address: all channels, but no inboxes. Safe while the bus is serving."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("addresses", nargs="*", metavar="ADDRESS", help="room:channel, or a room for all of it.")
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FILE", help="The file to write; - is standard output."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write it. Raises ``CommandError``."""
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
