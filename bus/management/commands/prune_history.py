"""``manage.py prune_history``: delete messages beyond the retention."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import log
from ...conf.settings import config
from ..base import StoreCommand, progress


class Command(StoreCommand):
    """Delete messages beyond the retention. Running servers do the same by themselves."""

    help = "Delete messages beyond the retention of their channel (count and age). It is safe while the bus runs."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument(
            "--count",
            type=int,
            help="Messages to keep per channel without its own retention (ARQONBUS_RETENTION_COUNT). 0 keeps all.",
        )
        parser.add_argument(
            "--age",
            type=float,
            help="Seconds to keep messages of such a channel (ARQONBUS_RETENTION_AGE). 0 keeps them for ever.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count the messages.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete the messages. Raises ``CommandError``."""
        settings = config()
        count = settings.retention_count if options["count"] is None else options["count"]
        age = settings.retention_age if options["age"] is None else options["age"]
        if count < 0 or age < 0:
            raise CommandError("--count and --age must not be negative. 0 keeps all messages.")
        beyond = log.beyond(log.prunable(default_count=count, default_age=age))
        if options["dry_run"]:
            self.stdout.write(f"{beyond} messages are beyond the retention.")
            return
        dropped = 0
        with progress(beyond, "messages") as bar:
            # Each call deletes a bounded part, so that no long transaction delays publishers.
            while part := log.prune(default_count=count, default_age=age, window=settings.idempotency_window):
                dropped += part
                bar.update(part)
        self.stdout.write(f"Deleted {dropped} messages.")
