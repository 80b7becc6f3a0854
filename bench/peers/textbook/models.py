"""The stored message of the durable variant."""

from __future__ import annotations

from django.db import models


class Message(models.Model):
    """One row per message, saved before it is sent on."""

    room = models.CharField(max_length=64, db_index=True)
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "textbook"

    def __str__(self) -> str:
        return f"{self.room}: {self.pk}"
