"""``manage.py create_token NAME [--admin]``: create an access token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from ...auth.permissions import SYSTEM
from ...models import AccessToken
from ...services import tokens
from ..base import StoreCommand


class Command(StoreCommand):
    """Create an access token and print it on the last line. The database stores only its hash."""

    help = "Create an access token. The last line of the output is the token; it is shown only once."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the command's arguments."""
        parser.add_argument("name", help="Purpose of the token, for the admin and the audit log.")
        parser.add_argument("--admin", action="store_true", help="Let the token administer the bus.")
        parser.add_argument(
            "--user",
            help="Login name of the Django user whose rights and client ids the token has.",
        )
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            help="Allow only this action (join, publish, …). Repeat it for more.",
        )
        parser.add_argument("--replace", action="store_true", help="Revoke earlier tokens with this name.")
        parser.add_argument(
            "--days", type=float, help="Days until the token expires. Without it, the token never expires."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create the token. Raises ``CommandError`` for an unknown user."""
        user = None
        if options["user"]:
            users = get_user_model()
            user = users._default_manager.filter(**{users.USERNAME_FIELD: options["user"]}).first()
            if user is None:
                raise CommandError(
                    f"There is no user with the {users.USERNAME_FIELD} {options['user']!r}. "
                    "`manage.py createsuperuser` creates one."
                )
        expires_at = timezone.now() + timedelta(days=options["days"]) if options["days"] else None
        with transaction.atomic():
            if options["replace"]:
                for earlier in AccessToken.objects.filter(name=options["name"], user=user, revoked_at=None):
                    tokens.revoke(SYSTEM, earlier, door="command")
            token, secret = tokens.create(
                SYSTEM,
                options["name"],
                user=user,
                admin=options["admin"],
                scopes=options["scope"],
                expires_at=expires_at,
                door="command",
            )
        role = "admin" if token.admin else "ordinary"
        self.stdout.write(
            f"Created {role} token {token.prefix}… for {token.name!r}. Store it now: it is not shown again."
        )
        self.stdout.write(secret)
