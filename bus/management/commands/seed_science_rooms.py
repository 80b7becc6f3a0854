"""``manage.py seed_science_rooms``."""

from __future__ import annotations

from typing import Any

from ...conf.settings import config
from ...services.seed import seed_hardcoded
from ..base import StoreCommand


class Command(StoreCommand):
    """Makes the room ``science`` and the bus's own (``integriguard``); what is there already stays as it is."""

    help = "Make the room science and the bus's own room with their channels, where they are missing, and say what was done."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them."""
        done = seed_hardcoded(science=True)
        for line in done:
            self.stdout.write(line)
        if not done:
            self.stdout.write("The built-in rooms and channels exist already; there is nothing to do.")
        if not config().science_room:
            self.stdout.write(
                'An admin can delete the room science here; ARQONBUS = {"science_room": True} makes it built in.'
            )
