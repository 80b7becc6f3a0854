"""Questions: messages that want an answer before a deadline."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Question(models.Model):
    """The message ``seq`` of an inbox or of a work channel asks for a reply. The asker is ``client_id``."""

    class State(models.TextChoices):
        OPEN = "open", "open"
        ANSWERED = "answered", "answered"
        TIMEOUT = "timeout", "timeout"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="questions", db_index=False)
    seq = models.BigIntegerField()
    uid = models.CharField(max_length=160)
    # The client that is asked. Empty for a work channel, where any worker may answer.
    to = models.CharField(max_length=64, blank=True, default="")
    client_id = models.CharField(max_length=64)
    principal = models.CharField(max_length=128, blank=True, default="")
    correlation = models.CharField(max_length=160)
    # The id that the asker gave its frame, for the error that it gets at the deadline.
    request_id = models.CharField(max_length=128, blank=True, default="")
    # The keys of the trace context, which the reply gets where it has none of its own.
    trace = models.TextField(blank=True, default="")
    deadline = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    # The reply in the asker's inbox.
    reply_seq = models.BigIntegerField(null=True, blank=True)
    asked_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "seq"], name="bus_question_channel_seq")]
        indexes = [
            models.Index(fields=["uid"], name="bus_question_uid"),
            models.Index(fields=["deadline"], condition=models.Q(state="open"), name="bus_question_deadline"),
            models.Index(fields=["client_id"], condition=models.Q(state="open"), name="bus_question_of_client"),
            models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="bus_question_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.uid} ({self.state})"
