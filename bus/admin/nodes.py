"""Admin pages of the processes of the bus."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from ..conf.settings import config
from ..models import Client, Node
from .base import ReadOnlyAdmin, figure, list_link, pretty


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin[Node]):
    """Processes with their last heartbeat and their figures."""

    list_display = ["__str__", "alive", "people", "version", "started_at", "heartbeat_at"]
    fields = ["host", "pid", "version", "started_at", "heartbeat_at", "stats_text"]
    readonly_fields = ["stats_text"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        """Return the processes with the number of their clients."""
        return super().get_queryset(request).annotate(people=Count("clients"))

    @admin.display(description="alive", boolean=True)
    def alive(self, node: Node) -> bool:
        """Show whether the last heartbeat is recent."""
        return node.heartbeat_at > timezone.now() - timedelta(seconds=config().node_timeout)

    @admin.display(description="clients", ordering="people")
    def people(self, node: Node) -> Any:
        """Show the number of connected clients, with a link to them."""
        return list_link(Client, figure(node, "people"), node__id__exact=node.pk)

    @admin.display(description="figures")
    def stats_text(self, node: Node) -> Any:
        """Show the figures of the last heartbeat."""
        return pretty(node.stats)
