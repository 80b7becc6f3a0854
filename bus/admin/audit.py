"""The audit log: append-only, so it is looked at only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from ..models import AuditEntry
from .base import ReadOnlyAdmin, pretty


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    """Who changed what, through which door."""

    list_display = ["at", "actor", "principal", "action", "target", "door"]
    list_filter = ["door", "action"]
    search_fields = ["actor", "principal", "target"]
    ordering = ["-id"]
    fields = ["at", "actor", "principal", "door", "action", "target", "details_text"]
    readonly_fields = ["details_text"]

    @admin.display(description="details")
    def details_text(self, entry: AuditEntry) -> Any:
        """What else is known."""
        return pretty(entry.details)
