"""Streamed messages: the state of each, the parts of the open ones, and the steers that wait for their owners."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Stream(models.Model):
    """A message that grows. Its opening is in the log at ``seq``, and its end at ``end_seq``.

    The row stays after the end until the log drops the opening, or until the channel goes.
    """

    class Mode(models.TextChoices):
        TEXT = "text", "text"
        PARTS = "parts", "parts"

    class State(models.TextChoices):
        OPEN = "open", "open"
        COMPLETE = "complete", "complete"
        ABORTED = "aborted", "aborted"
        STOPPED = "stopped", "stopped"

    # The uid of the opening. It names the stream everywhere, so no two streams of the bus share one.
    uid = models.CharField(max_length=160, unique=True)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="streams", db_index=False)
    seq = models.BigIntegerField()
    mode = models.CharField(max_length=8, choices=Mode, default=Mode.TEXT)
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    # The number of the newest part that the bus keeps.
    have = models.BigIntegerField(default=0)
    # The bytes of all parts, as JSON.
    bytes = models.BigIntegerField(default=0)
    # How many rows of parts wait to become one, and the number of the last part before them.
    loose = models.IntegerField(default=0)
    merged = models.BigIntegerField(default=0)
    client_id = models.CharField(max_length=64)
    principal = models.CharField(max_length=128, blank=True, default="")
    # The owner appends over REST or from Django code, so no connection shows whether it is still there.
    rest = models.BooleanField(default=False)
    # Grows with each adoption. From the second attempt on, the owner has to show the token of its adoption.
    attempt = models.IntegerField(default=1)
    token_digest = models.CharField(max_length=64, blank=True, default="")
    # How many rows of ``StreamSteer`` the stream has.
    steers = models.IntegerField(default=0)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    opened_at = models.DateTimeField(default=timezone.now)
    # Since when the owner is known to have no connection.
    gone_at = models.DateTimeField(null=True, blank=True)
    # The newest append. It has no index, so that rows stay updatable in place.
    touched_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_seq = models.BigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "seq"], name="bus_stream_channel_seq")]
        indexes = [
            models.Index(fields=["channel"], condition=models.Q(state="open"), name="bus_stream_open"),
            models.Index(fields=["client_id"], condition=models.Q(state="open"), name="bus_stream_open_of_client"),
            models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="bus_stream_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.uid} ({self.state})"


class StreamPart(models.Model):
    """The parts ``first`` to ``n`` of an open stream, as the bytes that their owner sent.

    In mode ``text``, ``data`` is the body of one JSON string. In mode ``parts`` it is JSON values with commas between. The
    end's transaction removes the rows.
    """

    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="parts", db_index=False)
    first = models.BigIntegerField()
    n = models.BigIntegerField()
    data = models.TextField()

    class Meta:
        ordering = ["stream", "n"]
        constraints = [models.UniqueConstraint(fields=["stream", "n"], name="bus_streampart_stream_n")]

    def __str__(self) -> str:
        return f"{self.stream_id}: {self.first} to {self.n}"


class StreamSteer(models.Model):
    """A steer that the owner of an open stream has not taken yet. ``seq`` is its message in the stream's channel."""

    stream = models.ForeignKey(Stream, on_delete=models.CASCADE, related_name="open_steers", db_index=False)
    uid = models.CharField(max_length=160)
    seq = models.BigIntegerField()

    class Meta:
        ordering = ["stream", "seq"]
        # A uid may come twice: two senders can choose the same id.
        constraints = [models.UniqueConstraint(fields=["stream", "seq"], name="bus_streamsteer_stream_seq")]

    def __str__(self) -> str:
        return self.uid
