"""``manage.py create_token NAME [--admin]``."""

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
    """Makes an access token and prints it, alone, on the last line. It is not shown again: only its hash is kept."""

    help = "Make an access token; it is printed alone on the last line, once."

    def add_arguments(self, parser: CommandParser) -> None:
        """The command line."""
        parser.add_argument("name", help="What the token is for; shown in the admin and in the audit log.")
        parser.add_argument("--admin", action="store_true", help="Let its bearer administer the bus.")
        parser.add_argument(
            "--user",
            help="Django user that the token acts for (its rights and client ids), by the name it logs in with.",
        )
        parser.add_argument(
            "--scope", action="append", default=[], help="Allow only this (join, publish, …); repeatable."
        )
        parser.add_argument("--replace", action="store_true", help="Revoke the tokens that had this name before.")
        parser.add_argument("--days", type=float, help="Days until it expires; without it, never.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it."""
        user = None
        if options["user"]:
            users = get_user_model()
            user = users._default_manager.filter(**{users.USERNAME_FIELD: options["user"]}).first()
            if user is None:
                raise CommandError(
                    f"There is no user whose {users.USERNAME_FIELD} is {options['user']!r}; "
                    "`manage.py createsuperuser` makes one."
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
        self.stdout.write(f"Made {role} token {token.prefix}… for {token.name!r}. Keep it: it is not shown again.")
        self.stdout.write(secret)
