"""Admin page of the audit log. The log is append-only, so the page is read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from ..models import AuditEntry
from .base import ReadOnlyAdmin, pretty


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    """Entries of the audit log: each change with its author and its interface."""

    list_display = ["at", "actor", "principal", "action", "target", "door"]
    list_filter = ["door", "action"]
    search_fields = ["actor", "principal", "target"]
    ordering = ["-id"]
    fields = ["at", "actor", "principal", "door", "action", "target", "details_text"]
    readonly_fields = ["details_text"]

    @admin.display(description="details")
    def details_text(self, entry: AuditEntry) -> Any:
        """Show the other values of the entry."""
        return pretty(entry.details)
