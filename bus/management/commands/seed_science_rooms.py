"""``manage.py seed_science_rooms``."""

from __future__ import annotations

from typing import Any

from ...services.seed import seed_hardcoded
from ..base import StoreCommand


class Command(StoreCommand):
    """Makes the hardcoded rooms ``science`` and ``integriguard``; what is there already stays as it is."""

    help = "Make the rooms science and integriguard with their channels, where they are missing, and say what was done."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them."""
        done = seed_hardcoded()
        for line in done:
            self.stdout.write(line)
        if not done:
            self.stdout.write("The hardcoded rooms and channels are all there; nothing to do.")
