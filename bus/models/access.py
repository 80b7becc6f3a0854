"""Who may do what: access tokens, grants, redeemed tickets, and notes of changes."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from .values import digest


class AccessToken(models.Model):
    """A bearer token. Only its digest is stored, so the token is shown once, when it is created."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="bus_tokens"
    )
    admin = models.BooleanField(default=False, help_text="Allow all actions on the bus.")
    scopes = models.JSONField(
        default=list,
        blank=True,
        help_text='Allowed actions, such as ["join", "publish"]. Empty: all actions.',
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    PREFIX = "arq_tok_"

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @classmethod
    def issue(cls, name: str, **fields: Any) -> tuple[AccessToken, str]:
        """Create a token. Return the row and the secret text, which is not stored."""
        secret = cls.PREFIX + secrets.token_urlsafe(32)
        token = cls.objects.create(name=name, prefix=secret[:12], digest=digest(secret), **fields)
        return token, secret

    def is_good(self) -> bool:
        """Return whether the token is neither revoked nor expired, and its user, if it has one, is active."""
        if self.revoked_at is not None or (self.expires_at is not None and self.expires_at <= timezone.now()):
            return False
        return self.user is None or self.user.is_active


class Grant(models.Model):
    """A rule that allows or forbids an action in matching channels. A ban wins over a grant (``bus.auth.permissions``)."""

    class Subject(models.TextChoices):
        EVERYONE = "everyone", "everyone"
        ANONYMOUS = "anonymous", "anonymous clients"
        IDENTIFIED = "identified", "authenticated clients"
        USER = "user", "user (name)"
        GROUP = "group", "group (name)"
        TOKEN = "token", "access token (name)"
        CLIENT_TYPE = "client_type", "client type"

    class Action(models.TextChoices):
        JOIN = "join", "join"
        PUBLISH = "publish", "publish"
        HISTORY = "history", "read history"
        PRESENCE = "presence", "see members"
        MANAGE = "manage", "manage"
        DECIDE = "decide", "decide"
        ANY = "*", "everything"

    subject = models.CharField(max_length=16, choices=Subject)
    subject_name = models.CharField(
        max_length=150,
        blank=True,
        help_text=(
            "Name of the user (jwt:<sub> for a JWT), group, client type, or token (user/name for the token of a user). "
            "Each client chooses its own client type: use it for bans, not for protection."
        ),
    )
    action = models.CharField(max_length=16, choices=Action)
    pattern = models.CharField(max_length=130, help_text="room:channel, with * for any text, such as science:*")
    allow = models.BooleanField(default=True, help_text="Off: a ban, which overrides grants that allow.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=150, blank=True, editable=False)

    class Meta:
        ordering = ["pattern", "subject", "action"]

    def __str__(self) -> str:
        verb = "may" if self.allow else "may not"
        return f"{self.subject} {self.subject_name} {verb} {self.action} {self.pattern}".replace("  ", " ")


class UsedTicket(models.Model):
    """A redeemed single-use ticket. The row stays until the ticket would have expired (``bus.auth.tickets``)."""

    id = models.CharField(max_length=32, primary_key=True)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.id


class AccessChange(models.Model):
    """A change of somebody's permissions. Every process looks for new rows (``bus.services.rights``).

    ``subject`` is "rules", "everyone", or the principal or credential that changed, such as "user:3" or "token:5".
    """

    subject = models.CharField(max_length=128)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.subject
