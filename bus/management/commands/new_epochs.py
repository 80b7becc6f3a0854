"""``manage.py new_epochs``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from ...auth.permissions import SYSTEM
from ...services import epochs
from ..base import StoreCommand


class Command(StoreCommand):
    """Gives every log a new epoch; for a database that was set back to an older state, before the servers start."""

    help = (
        "After restoring a backup and before the servers start: tell clients that come back that messages they have seen "
        "are gone, instead of letting them take new messages for those."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Renew them."""
        try:
            count = epochs.renew(SYSTEM, door="command")
        except epochs.StillServed as still:
            raise CommandError(f"{still.count} process(es) of the bus serve this database. Stop them first.") from None
        self.stdout.write(
            f"{count} channels have a new epoch. Clients that come back are told what is left (recovered: false)."
        )
