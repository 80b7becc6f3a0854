"""The processes, the clients and their memberships."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


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
    # How often the id was claimed. With the row's key it gives the order of the claims (``services.ownership``).
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
    # What the client says of itself at registration: its name and its skills.
    card = models.JSONField(null=True, blank=True, editable=False)
    # What the client does now. It holds until it is replaced, until the time, or until the client leaves.
    status = models.JSONField(null=True, blank=True, editable=False)
    status_until = models.DateTimeField(null=True, blank=True, editable=False)
    # An anonymous client has a mark. The bus looks for marks only then.
    marked = models.BooleanField(default=False, db_default=False, editable=False)

    class Meta:
        ordering = ["client_id"]
        indexes = [
            # For clients to forget (``services.sweeping.sweep_clients``).
            models.Index(
                fields=["disconnected_at"], condition=models.Q(principal="", node=None), name="bus_client_gone"
            ),
            # For statuses that end by themselves (``services.statuses.end_overdue``).
            models.Index(
                fields=["status_until"], condition=models.Q(status_until__isnull=False), name="bus_client_status"
            ),
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
