"""``manage.py prune_history``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ... import log
from ...conf.settings import config
from ..base import StoreCommand, progress


class Command(StoreCommand):
    """Drops messages that the retention lets go; may run while servers run, which do the same by themselves."""

    help = "Drop messages beyond their channel's retention (count and age); safe while the bus is serving."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument(
            "--count",
            type=int,
            help="Messages kept per channel without a retention of its own; 0: all (ARQONBUS_RETENTION_COUNT).",
        )
        parser.add_argument(
            "--age",
            type=float,
            help="Seconds that messages of such a channel are kept; 0: for ever (ARQONBUS_RETENTION_AGE).",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many messages would go.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune."""
        settings = config()
        count = settings.retention_count if options["count"] is None else options["count"]
        age = settings.retention_age if options["age"] is None else options["age"]
        if count < 0 or age < 0:
            raise CommandError("--count and --age must not be negative; 0 keeps all.")
        beyond = log.beyond(log.prunable(default_count=count, default_age=age))
        if options["dry_run"]:
            self.stdout.write(f"{beyond} messages are beyond the retention.")
            return
        dropped = 0
        with progress(beyond, "messages") as bar:
            # Each call drops a bounded part, so that publishers are not kept waiting by a long transaction.
            while part := log.prune(default_count=count, default_age=age, window=settings.idempotency_window):
                dropped += part
                bar.update(part)
        self.stdout.write(f"Dropped {dropped} messages.")
