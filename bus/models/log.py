"""The rooms, the channels with the heads of their logs, and the messages."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from ..protocol.kept import legible
from ..protocol.names import NAME_RULE, Address
from .values import new_epoch, wire_time

validate_name = RegexValidator(r"\A[A-Za-z0-9_\-./]{1,64}\Z", f"A name has {NAME_RULE}")

#: Characters that some readers treat as the end of a line, or a terminal as a command. Lines have them escaped as in JSON.
_BREAKS = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}


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

    class Presence(models.TextChoices):
        NAMES = "names", "names"
        COUNTS = "counts", "counts"
        NONE = "none", "nothing"

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
    # The rule of a work channel: an object with the fields of ``shapes.WorkRule``. Null: each member gets each message.
    work = models.JSONField(
        null=True,
        blank=True,
        help_text='Each message goes to one worker. The rule, such as {"lease": 30, "attempts": 5}. Empty: to all members.',
    )
    presence = models.CharField(  # noqa: DJ001 - null: nothing was chosen.
        max_length=6,
        choices=Presence,
        null=True,
        blank=True,
        help_text="How much members learn of one another: names, only how many they are, or nothing. Empty: names.",
    )
    hardcoded = models.BooleanField(default=False, editable=False)
    auto_created = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.CharField(max_length=150, default="arqonbus_server", editable=False)
    # The owner that the channel counts for (``Actor.owner``). A new client id does not evade the owner's limit.
    owner = models.CharField(max_length=128, blank=True, default="", db_index=True, editable=False)

    epoch = models.CharField(max_length=16, default=new_epoch, editable=False)
    head = models.BigIntegerField(default=0, editable=False)
    # When the log moved last. It has no index, so that rows stay updatable in place.
    touched_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["room__name", "name"]
        constraints = [models.UniqueConstraint(fields=["room", "name"], name="bus_channel_room_name")]
        indexes = [
            # For the channels that each removal of old messages looks at (``log.retention``).
            models.Index(
                fields=["id"],
                condition=models.Q(retention_count__isnull=False) | models.Q(retention_age__isnull=False),
                name="bus_channel_own_retention",
            )
        ]

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
            **({} if self.work is None else {"work": self.work}),
            **({} if self.presence is None else {"presence": self.presence}),
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
    # How many handlers, one after the other, led to the message. Handlers that publish to one another are stopped by it.
    hops = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)

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
