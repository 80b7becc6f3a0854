"""Handlers: how far each function of the project that gets messages is in each log."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Handler(models.Model):
    """A handler by its name. The row is made when a process runs the handler for the first time."""

    name = models.CharField(max_length=100, unique=True)
    pattern = models.CharField(max_length=130)
    started_at = models.DateTimeField(default=timezone.now)
    # When a process last said that it runs the handler.
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class HandlerPosition(models.Model):
    """A handler has dealt with the messages of a log up to ``seq``, in the log's ``epoch``."""

    class State(models.TextChoices):
        RUNNING = "running", "running"
        STOPPED = "stopped", "stopped"

    handler = models.ForeignKey(Handler, on_delete=models.CASCADE, related_name="positions", db_index=False)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="handler_positions")
    seq = models.BigIntegerField(default=0)
    epoch = models.CharField(max_length=16)
    # The thread that has the lease, and until when. An asynchronous handler runs under a lease and without a transaction.
    holder = models.CharField(max_length=96, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    # How often the message after ``seq`` failed, and when it is tried again.
    attempt = models.IntegerField(default=0)
    retry_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    # The type of the newest exception and the reference of its traceback in the log. The exception's text may be secret.
    error = models.CharField(max_length=300, blank=True, default="")
    handled = models.BigIntegerField(default=0)
    failed = models.BigIntegerField(default=0)
    # Messages that were gone before the handler came to them.
    lost = models.BigIntegerField(default=0)
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["handler", "channel"], name="bus_handlerposition_handler_channel")
        ]

    def __str__(self) -> str:
        return f"{self.handler_id}: {self.seq} ({self.state})"
