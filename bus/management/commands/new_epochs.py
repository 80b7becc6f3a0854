"""``manage.py new_epochs``: give all logs a new epoch after a restored backup."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from ...auth.permissions import SYSTEM
from ...services import epochs
from ..base import StoreCommand


class Command(StoreCommand):
    """Give every log a new epoch. Run it before the servers start, if the database is older than the clients."""

    help = (
        "Run this after you restored a backup, before the servers start. Clients then learn that messages are gone, "
        "and do not mistake new messages for the lost ones."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Renew all epochs. Raises ``CommandError`` if servers run."""
        try:
            count = epochs.renew(SYSTEM, door="command")
        except epochs.StillServed as still:
            raise CommandError(f"{still.count} process(es) of the bus use this database. Stop them first.") from None
        self.stdout.write(
            f"{count} channels have a new epoch. Clients that resume get `recovered: false` and the messages that are left."
        )
