"""``manage.py seed_science_rooms``: create the built-in rooms."""

from __future__ import annotations

from typing import Any

from ...conf.settings import config
from ...services.seed import seed_hardcoded
from ..base import StoreCommand


class Command(StoreCommand):
    """Create the rooms ``science`` and ``integriguard`` with their channels. Existing ones stay unchanged."""

    help = "Create the room science and the bus's own room with their channels, if they are missing, and list the new ones."

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the missing rooms and channels."""
        done = seed_hardcoded(science=True)
        for line in done:
            self.stdout.write(line)
        if not done:
            self.stdout.write("The built-in rooms and channels already exist. There is nothing to do.")
        if not config().science_room:
            self.stdout.write(
                "The room science is not built in here, so an admin can delete it. "
                'ARQONBUS = {"science_room": True} makes it built in.'
            )
