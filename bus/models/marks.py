"""Marks: how far a client or a principal has dealt with a log."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Mark(models.Model):
    """The ``holder`` has dealt with the messages of a log up to ``seq``, in the log's ``epoch``."""

    # The principal, or `client:<client_id>` for an anonymous client.
    holder = models.CharField(max_length=192)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="marks")
    seq = models.BigIntegerField()
    epoch = models.CharField(max_length=16)
    moved_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["holder", "channel"], name="bus_mark_holder_channel")]

    def __str__(self) -> str:
        return f"{self.holder}: {self.seq}"
