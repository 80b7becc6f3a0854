"""The tickets of the desk."""

from __future__ import annotations

from django.db import models


class Ticket(models.Model):
    """A question of a customer, with the answer that a person approved."""

    # The decision that it comes from. Unique: a second ticket of one decision would be a fault.
    decision = models.CharField(max_length=40, unique=True)
    customer = models.CharField(max_length=100)
    question = models.TextField()
    answer = models.TextField()
    approved_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        """Return the customer and the number of the ticket."""
        return f"{self.customer} #{self.pk}"
