"""The tables of the bus: rooms, channels (each with the head of its log), messages, clients and permissions.

The database is the log. ``Channel.head`` is the ``seq`` of the newest message. The transaction that inserts messages
moves it. Its lock on the row gives the messages of many writers one order (docs/architecture.md).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import UTC, datetime
from typing import Any, overload

import msgspec
from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from .protocol.kept import legible
from .protocol.names import NAME_RULE, Address

validate_name = RegexValidator(r"\A[A-Za-z0-9_\-./]{1,64}\Z", f"A name has {NAME_RULE}")

#: Characters that some readers treat as the end of a line, or a terminal as a command. Lines have them escaped as in JSON.
_BREAKS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


def new_epoch() -> str:
    """Return a new epoch. A log's epoch changes only when the log is created anew or loses messages."""
    return secrets.token_hex(4)


class Room(models.Model):
    """A room holds channels."""

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    description = models.CharField(max_length=500, blank=True)
    private = models.BooleanField(default=False, help_text="Hidden from clients without a grant to join.")
    presence = models.BooleanField(
        null=True, blank=True, help_text="Announce joins and leaves. Unknown: the setting of the server."
    )
    hardcoded = models.BooleanField(default=False, editable=False)
    # A join or a message created the room. It is removed with its last channel.
    auto_created = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=150, default="arqonbus_server", editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Channel(models.Model):
    """A channel and the head of its log. Inboxes and whole-room logs are channels of their own kind."""

    class Kind(models.TextChoices):
        CHANNEL = "channel", "channel"
        ROOM = "room", "whole room"
        INBOX = "inbox", "inbox"
        EVERYONE = "everyone", "everybody"

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="channels")
    name = models.CharField(max_length=64)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.CHANNEL, editable=False)
    type = models.CharField(max_length=32, default="custom", help_text="standard, custom, or your own word.")
    description = models.CharField(max_length=500, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    ephemeral = models.BooleanField(
        default=False, help_text="Messages are delivered but not stored: no seq, no history."
    )
    retention_count = models.PositiveIntegerField(
        null=True, blank=True, help_text="Maximum number of stored messages. Empty: the setting of the server."
    )
    retention_age = models.PositiveIntegerField(
        null=True, blank=True, help_text="Maximum age of stored messages in seconds. Empty: the setting of the server."
    )
    hardcoded = models.BooleanField(default=False, editable=False)
    auto_created = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=150, default="arqonbus_server", editable=False)
    # The owner that the channel counts for (``Actor.owner``). A new client id does not evade the owner's limit.
    owner = models.CharField(max_length=128, blank=True, default="", db_index=True, editable=False)

    epoch = models.CharField(max_length=16, default=new_epoch, editable=False)
    head = models.BigIntegerField(default=0, editable=False)
    # The heartbeat looks for logs that moved lately with it. It has no index, so that rows stay updatable in place.
    touched_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["room__name", "name"]
        constraints = [models.UniqueConstraint(fields=["room", "name"], name="bus_channel_room_name")]

    def __str__(self) -> str:
        return str(self.address)

    @property
    def address(self) -> Address:
        """The channel's address. Costs a query when ``room`` is not loaded."""
        return Address(self.room.name, self.name)

    def public_metadata(self) -> dict[str, Any]:
        """Return the ``metadata`` object of a channel. The channel's own keys cannot overwrite the fields of the bus."""
        return {
            **self.metadata,
            "created_at": wire_time(self.created_at),
            "created_by": self.created_by,
            "type": self.type,
            "hardcoded": self.hardcoded,
            "description": self.description,
            "ephemeral": self.ephemeral,
            "retention": {"count": self.retention_count, "age": self.retention_age},
        }


class Message(models.Model):
    """One message of a channel's log, stored as exactly the frame that was delivered."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="messages", db_index=False)
    seq = models.BigIntegerField()
    uid = models.CharField(max_length=160)
    type = models.CharField(max_length=64)
    sender = models.CharField(max_length=64)
    created_at = models.DateTimeField(db_index=True)
    frame = models.TextField()

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "seq"], name="bus_message_channel_seq")]

    def __str__(self) -> str:
        return f"{self.uid} (seq {self.seq})"

    def line(self) -> str:
        """Return the frame as one line of JSON.

        Line breaks of a payload are escaped. Otherwise a sender could forge lines of other senders.
        """
        return msgspec.json.format(self.legible, indent=-1).decode().translate(_BREAKS)

    def as_dict(self) -> dict[str, Any]:
        """Return the frame as values.

        An older version may have stored a frame that not every parser can read. Its readable form is returned then.
        """
        value: dict[str, Any] = json.loads(self.legible)
        return value

    @property
    def legible(self) -> bytes:
        """The frame's bytes in a form that every parser can read (``protocol.kept``)."""
        return legible(self.frame.encode(), self.seq)


class PublishKey(models.Model):
    """A sender's own message id. The bus remembers it to recognise a repeated publish."""

    # The form is sender/id. A private message has >target after it (``frames.publish_key``).
    key = models.CharField(max_length=350, primary_key=True)
    # No database constraint ties it to the channel. With one, each new key would lock the channel's row. The removal of a
    # channel, for which publishers wait, would read the keys of a whole day to find its own. Keys of a removed channel count
    # for nothing (``log.store``) and expire.
    channel = models.ForeignKey(
        Channel, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", db_index=False
    )
    seq = models.BigIntegerField()
    created_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.key


class Node(models.Model):
    """A process of the bus. It counts as alive while its last heartbeat is recent."""

    id = models.CharField(max_length=32, primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    # The namespace of the pid. Containers with one host name have a namespace each.
    pid_space = models.CharField(max_length=40, blank=True, default="")
    version = models.CharField(max_length=32)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now, db_index=True)
    stats = models.JSONField(default=dict)

    class Meta:
        ordering = ["started_at"]

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Client(models.Model):
    """A client id on the bus. The client is connected while ``node`` is set."""

    client_id = models.CharField(max_length=64, unique=True)
    client_type = models.CharField(max_length=64, default="app")
    screen_name = models.CharField(max_length=128, blank=True, default="")
    avatar = models.CharField(max_length=2048, blank=True, default="")
    personality = models.JSONField(default=dict, blank=True)
    role = models.CharField(max_length=16, default="user", editable=False)
    # The owner of the id: "user:3", "token:5", "jwt:<subject>", or "" for an anonymous client.
    principal = models.CharField(max_length=128, blank=True, default="", db_index=True, editable=False)
    # The server generated the id for one connection. The row is removed with the connection.
    generated = models.BooleanField(default=False, editable=False)
    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="clients", editable=False
    )
    connection_id = models.CharField(max_length=32, blank=True, default="", editable=False)
    # How often the id was claimed. With the row's key it gives the order of the claims (``services.claims``).
    claims = models.BigIntegerField(default=0, db_default=0, editable=False)
    resume_digest = models.CharField(max_length=64, blank=True, default="", editable=False)
    # A newcomer without proof cannot read private messages of the id's previous client. Those have a seq up to this one.
    inbox_floor = models.BigIntegerField(default=0, editable=False)
    # The epoch that the inbox gets with its first private message. The client already has it. Empty once it is used.
    inbox_epoch = models.CharField(max_length=16, blank=True, default="", db_default="", editable=False)
    # Since when the owner of the id has proved to be the same. Messages sent under the id before are not theirs to read.
    proven_since = models.DateTimeField(default=timezone.now, editable=False)
    connected_at = models.DateTimeField(null=True, blank=True, editable=False)
    disconnected_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_activity = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["client_id"]
        indexes = [
            # For clients to forget (``services.sweeping.sweep_clients``).
            models.Index(
                fields=["disconnected_at"], condition=models.Q(principal="", node=None), name="bus_client_gone"
            )
        ]

    def __str__(self) -> str:
        return self.client_id


class Membership(models.Model):
    """A connected client's membership of a channel."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="memberships")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="memberships")
    joined_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "channel"], name="bus_membership_client_channel")]

    def __str__(self) -> str:
        return f"{self.client_id} in {self.channel_id}"


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


class AppendOnly(models.QuerySet["AuditEntry"]):
    """Rows that cannot be changed or removed through the models."""

    def update(self, **_: Any) -> int:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")


class AuditEntry(models.Model):
    """An entry of the audit log: the change, its actor and the interface that the actor used. Entries are only added."""

    at = models.DateTimeField(default=timezone.now, db_index=True, editable=False)
    actor = models.CharField(max_length=150, editable=False)
    # The authenticated identity. "root" in ``actor`` may be the name of a user, of a token, or the claim of a JWT. Empty for
    # an anonymous actor or an old row.
    principal = models.CharField(max_length=128, blank=True, default="", db_index=True, editable=False)
    door = models.CharField(max_length=16, editable=False)
    action = models.CharField(max_length=32, editable=False)
    target = models.CharField(max_length=200, editable=False)
    details = models.JSONField(default=dict, editable=False)

    objects = AppendOnly.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the row. Raises ``TypeError`` for an existing row: the log is append-only."""
        if not self._state.adding:
            raise TypeError("The audit log is append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")


class Counter(models.Model):
    """A total that outlives processes and pruned rows: connections ever, messages ever."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"


def digest(secret: str) -> str:
    """Return the stored form of a token, SHA-256 in hex. It fits secrets of high entropy only."""
    return hashlib.sha256(secret.encode()).hexdigest()


@overload
def wire_time(moment: datetime) -> str: ...
@overload
def wire_time(moment: datetime | None) -> str | None: ...
def wire_time(moment: datetime | None) -> str | None:
    """Return a time in its form on the wire: ISO 8601, UTC, milliseconds and ``Z``. None stays None."""
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
