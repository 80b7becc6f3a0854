"""The jobs of work channels. Each message of such a channel has one, and one worker at a time has the job."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from .log import Channel


class Job(models.Model):
    """What became of the message ``seq`` of a work channel.

    A job that is ``done`` or ``discarded`` keeps its row for a while, so that a repeated answer is recognised.
    """

    class State(models.TextChoices):
        READY = "ready", "ready"
        CLAIMED = "claimed", "claimed"
        DONE = "done", "done"
        DEAD = "dead", "dead"
        DISCARDED = "discarded", "discarded"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="jobs", db_index=False)
    seq = models.BigIntegerField()
    uid = models.CharField(max_length=160)
    # The bytes of the message's frame. A claim has about as many as a frame may have.
    size = models.IntegerField(default=0)
    # The message asks a question, whose reply is the result of the job.
    asked = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.READY)
    # A worker gets the job at this time at the earliest.
    due_at = models.DateTimeField(default=timezone.now)
    # How often the job was claimed since it was ready for the first time, or since an operator retried it.
    attempt = models.IntegerField(default=0)
    # How often the job was claimed ever. The number names the newest claim, also after its end.
    claims = models.IntegerField(default=0)
    # The worker of the newest claim.
    client_id = models.CharField(max_length=64, blank=True, default="")
    principal = models.CharField(max_length=128, blank=True, default="")
    # The worker has no connection that shows whether it is still there. It renews the lease itself.
    rest = models.BooleanField(default=False)
    claimed_at = models.DateTimeField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    # The lease is not renewed beyond this time.
    hold_until = models.DateTimeField(null=True, blank=True)
    # Since when the worker of a claimed job is known to have no connection.
    gone_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    # The newest failures: objects with `attempt`, `by`, `error`, `at` and `why`.
    errors = models.JSONField(default=list, blank=True)
    # The worker's result, as the JSON text that it sent. Empty: it gave none.
    result = models.TextField(blank=True, default="")
    # Why the newest claim ended.
    last_reason = models.CharField(max_length=16, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["channel", "seq"], name="bus_job_channel_seq")]
        indexes = [
            models.Index(fields=["channel", "due_at", "id"], condition=models.Q(state="ready"), name="bus_job_ready"),
            models.Index(fields=["channel"], condition=models.Q(state="claimed"), name="bus_job_claimed"),
            models.Index(fields=["client_id"], condition=models.Q(state="claimed"), name="bus_job_of_client"),
            models.Index(fields=["channel"], condition=models.Q(state="dead"), name="bus_job_dead"),
            # Not by the states: SQLite would not see that a query for several of them is a query for these rows.
            models.Index(fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="bus_job_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.uid} ({self.state})"
