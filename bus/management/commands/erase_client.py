"""``manage.py erase_client``: erase everything that a client sent, for the law."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...auth.permissions import SYSTEM
from ...services import erasing
from ..base import StoreCommand


class Command(StoreCommand):
    """Erase the content of each message that a client sent, and what the client says of itself."""

    help = (
        "Erase the content of everything that a client sent, in all channels and inboxes. The messages keep their places. "
        "Running servers drop their copies. Nothing brings the content back. Backups still have it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the client."""
        parser.add_argument("client_id", help="the client whose messages are erased")
        parser.add_argument("--inbox", action="store_true", help="also erase the private messages to this client")

    def handle(self, *args: Any, **options: Any) -> None:
        """Erase, and say how many messages it were. Raises ``CommandError`` for an id that nothing is known of."""
        count = erasing.erase_client(options["client_id"], inbox=options["inbox"], actor=SYSTEM, door="command")
        if not count and not erasing.knows_of(options["client_id"]):
            raise CommandError(f"There is no client {options['client_id']}, and nothing of it.")
        self.stdout.write(f"Erased {count} messages of {options['client_id']}.")
