"""Amendments, which change earlier messages, and erasures, which blank what is kept of a message."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Amendment(models.Model):
    """The message ``seq`` of a channel changes its message ``of_seq``."""

    class Do(models.TextChoices):
        EDIT = "edit", "edit"
        DELETE = "delete", "delete"
        REACT = "react", "react"
        UNREACT = "unreact", "unreact"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="amendments", db_index=False)
    seq = models.BigIntegerField()
    of_seq = models.BigIntegerField()
    do = models.CharField(max_length=8, choices=Do)
    reaction = models.CharField(max_length=64, blank=True, default="")
    client_id = models.CharField(max_length=64)
    principal = models.CharField(max_length=128, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "seq"], name="bus_amendment_channel_seq")]
        indexes = [models.Index(fields=["channel", "of_seq"], name="bus_amendment_of")]

    def __str__(self) -> str:
        return f"{self.do} of {self.of_seq}"


class Erasure(models.Model):
    """The message ``seq`` of a channel was erased. Every process looks for new rows."""

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="erasures", db_index=False)
    seq = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.channel_id}: {self.seq}"
