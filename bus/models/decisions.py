"""Decisions: questions to people, who answer under the permissions of the project."""

from __future__ import annotations

import secrets

from django.db import models
from django.utils import timezone

from .log import Channel


def new_decision_uid() -> str:
    """Return a new id of a decision, such as ``arq_dec_5f0c…``."""
    return f"arq_dec_{secrets.token_hex(12)}"


class Decision(models.Model):
    """A question to people: may the ``client_id`` do the ``action`` with these ``args``?"""

    class State(models.TextChoices):
        PENDING = "pending", "pending"
        APPROVED = "approved", "approved"
        EDITED = "edited", "edited"
        REJECTED = "rejected", "rejected"
        RESPONDED = "responded", "responded"
        EXPIRED = "expired", "expired"
        CANCELLED = "cancelled", "cancelled"

    class OnExpiry(models.TextChoices):
        REJECT = "reject", "reject"
        APPROVE = "approve", "approve"
        NONE = "none", "none"

    uid = models.CharField(max_length=40, unique=True, default=new_decision_uid)
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="decisions", db_index=False)
    # The messages of the channel that tell of the request and of the answer.
    seq = models.BigIntegerField(null=True, blank=True)
    made_seq = models.BigIntegerField(null=True, blank=True)
    key = models.CharField(max_length=128)
    # Of the key, the action and the arguments.
    digest = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    action = models.CharField(max_length=128)
    # The arguments that were asked for, as the JSON text of an object.
    args = models.TextField(default="{}")
    # The answers that the asker takes: some of `approve`, `edit`, `reject` and `respond`.
    allow = models.JSONField(default=list)
    # The JSON schema of edited arguments.
    schema = models.JSONField(null=True, blank=True)
    expires_at = models.DateTimeField()
    on_expiry = models.CharField(max_length=8, choices=OnExpiry, default=OnExpiry.REJECT)
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    # The asker.
    client_id = models.CharField(max_length=64)
    principal = models.CharField(max_length=128, blank=True, default="")
    answer = models.CharField(max_length=10, blank=True, default="")
    # The arguments as a person edited them, as the JSON text of an object.
    answer_args = models.TextField(null=True, blank=True)  # noqa: DJ001 - null: nobody edited them.
    comment = models.CharField(max_length=2000, blank=True, default="")
    # The name and the principal of the person that decided.
    decider = models.CharField(max_length=150, blank=True, default="")
    decider_principal = models.CharField(max_length=128, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    consumed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["principal", "client_id", "key"],
                condition=models.Q(state="pending"),
                name="bus_decision_pending_key",
            )
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=models.Q(state="pending"), name="bus_decision_expires"),
            models.Index(fields=["channel", "-id"], name="bus_decision_channel"),
            models.Index(fields=["digest", "ended_at"], name="bus_decision_digest"),
            models.Index(
                fields=["ended_at"],
                condition=models.Q(answer="", ended_at__isnull=False),
                name="bus_decision_unanswered",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uid} ({self.state})"
