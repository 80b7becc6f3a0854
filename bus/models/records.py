"""What the bus records about itself: the audit log and its totals."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone


class AppendOnly(models.QuerySet["AuditEntry"]):
    """Rows that cannot be changed or removed through the models."""

    def update(self, **_: Any) -> int:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")


class AuditEntry(models.Model):
    """An entry of the audit log: the change, its actor and the interface that the actor used. Entries are only added."""

    at = models.DateTimeField(default=timezone.now, db_index=True, editable=False)
    actor = models.CharField(max_length=150, editable=False)
    # The authenticated identity. "root" in ``actor`` may be the name of a user, of a token, or the claim of a JWT. Empty for
    # an anonymous actor or an old row.
    principal = models.CharField(max_length=128, blank=True, default="", db_index=True, editable=False)
    door = models.CharField(max_length=16, editable=False)
    action = models.CharField(max_length=32, editable=False)
    target = models.CharField(max_length=200, editable=False)
    details = models.JSONField(default=dict, editable=False)

    objects = AppendOnly.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.target}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Add the row. Raises ``TypeError`` for an existing row: the log is append-only."""
        if not self._state.adding:
            raise TypeError("The audit log is append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Raise ``TypeError``: the log is append-only."""
        raise TypeError("The audit log is append-only.")


class Counter(models.Model):
    """A total that outlives processes and pruned rows: connections ever, messages ever."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"
