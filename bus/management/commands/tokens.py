"""``manage.py tokens list`` and ``manage.py tokens revoke TOKEN``. ``create_token`` creates tokens."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q

from ...auth.permissions import SYSTEM
from ...models import AccessToken, wire_time
from ...services import tokens
from ..base import StoreCommand


class Command(StoreCommand):
    """List or revoke access tokens."""

    help = "List the access tokens, or revoke one. Every process then closes the connections of that token at once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|revoke", help="Without one: list.")
        listing = actions.add_parser("list", help="Show the valid tokens, newest first.")
        listing.add_argument("--all", action="store_true", help="Also show revoked and expired tokens.")
        revoking = actions.add_parser("revoke", help="Revoke a token.")
        revoking.add_argument("token", help="Number or name of the token in `tokens list`.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the chosen action. Raises ``CommandError``."""
        if options["action"] == "revoke":
            self._revoke(options["token"])
        else:
            self._list(everything=options.get("all", False))

    def _list(self, *, everything: bool) -> None:
        rows = [
            (
                str(token.pk),
                token.name,
                f"{token.prefix}…",
                token.user.get_username() if token.user else "",
                "admin" if token.admin else ", ".join(token.scopes) or "ordinary",
                _state(token),
                _day(wire_time(token.last_used_at)),
            )
            for token in AccessToken.objects.select_related("user")
            if everything or token.is_good()
        ]
        if not rows:
            self.stdout.write("There is no access token. `manage.py create_token NAME` creates one.")
            return
        self.table(("number", "name", "begins with", "user", "scopes", "expires", "last used"), rows)

    def _revoke(self, wanted: str) -> None:
        matches = Q(name=wanted)
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
            matches |= Q(pk=int(wanted))
        found = list(AccessToken.objects.filter(matches, revoked_at=None))
        if not found:
            raise CommandError(f"There is no valid token {wanted!r}. `manage.py tokens list` shows the valid tokens.")
        if len(found) > 1:
            numbers = ", ".join(str(token.pk) for token in found)
            raise CommandError(f"{len(found)} tokens have the name {wanted!r}. Give the number of one: {numbers}.")
        (token,) = found
        tokens.revoke(SYSTEM, token, door="command")
        self.stdout.write(f"Revoked token {token.pk} ({token.name}).")


def _state(token: AccessToken) -> str:
    if token.revoked_at is not None:
        return f"revoked {_day(wire_time(token.revoked_at))}"
    return _day(wire_time(token.expires_at)) or "never"


def _day(time: str | None) -> str:
    return (time or "")[:10]
