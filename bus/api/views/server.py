"""The views of the server: figures, processes, the audit log, and the identity of the caller."""

from __future__ import annotations

from datetime import UTC, datetime

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from ... import shapes
from ...models import AuditEntry, wire_time
from ...services import clients as client_service
from ...services import nodes, totals
from ...version import PROTOCOL, VERSION
from ..permissions import IsBusAdmin
from ..queries import AuditFilter
from ..schema import operation, query
from .base import BusView, decode_cursor, encode_cursor, number_of, page

#: The names of the lists and figures. Each is also the name of its address.
ADDRESSES = (
    "rooms", "channels", "messages", "clients", "tokens", "tickets", "grants", "audit", "nodes", "handlers", "stats", "me",
)  # fmt: skip


class Root(BusView):
    """``/``."""

    @operation("root_get", "List the addresses", dict[str, str], tag="server")
    def get(self, request: Request) -> Response:
        """The entry addresses, by name. `docs` leads to the document with all addresses."""
        names = {name: f"bus:api:{name}" for name in (*ADDRESSES, "docs")}
        return Response({name: request.build_absolute_uri(reverse(view)) for name, view in names.items()})


class Stats(BusView):
    """``/stats``."""

    @operation("stats_get", "Show the server's figures", shapes.ServerStats, tag="server")
    def get(self, request: Request) -> Response:
        """Connections, rooms, channels and messages, over all processes."""
        server = shapes.Server(version=VERSION, protocol=PROTOCOL)
        return Response(shapes.ServerStats(server=server, stats=totals.stats()))


class Me(BusView):
    """``/me``."""

    @operation("me_get", "Show my identity", shapes.Me, tag="server")
    def get(self, request: Request) -> Response:
        """Your identity, and the rights of your credentials."""
        actor = self.actor
        ends = datetime.fromtimestamp(actor.expires_at, UTC) if actor.expires_at is not None else None
        return Response(
            shapes.Me(
                name=actor.name,
                role=actor.role,
                user=actor.user or None,
                token=actor.token or None,
                groups=sorted(actor.groups),
                scopes=sorted(actor.scopes) if actor.scopes is not None else None,
                client_ids=sorted(client_service.own_ids(actor)),
                me=actor.own_name or None,
                expires_at=wire_time(ends),
            )
        )


class Nodes(BusView):
    """``/nodes``."""

    permission_classes = [IsBusAdmin]

    @operation("nodes_list", "List the processes", shapes.ProcessList, tag="server")
    def get(self, request: Request) -> Response:
        """The processes of the bus with their figures. For admins."""
        return Response(shapes.ProcessList(results=nodes.rows()))


class Audit(BusView):
    """``/audit``."""

    permission_classes = [IsBusAdmin]

    @operation("audit_list", "Read the audit log", shapes.AuditList, tag="server", parameters=query(AuditFilter))
    def get(self, request: Request) -> Response:
        """All changes with actor, action and interface, newest first. For admins."""
        filters = AuditFilter.of(request, AuditEntry.objects.all())
        rows = filters.qs.order_by("-pk")
        if after := decode_cursor(filters.values["cursor"], 1):
            rows = rows.filter(pk__lt=number_of(after[0]))
        found = list(rows[: filters.size + 1])
        more = encode_cursor(found[filters.size - 1].pk) if len(found) > filters.size else None
        return page(
            [
                shapes.AuditEntry(
                    id=entry.pk,
                    at=wire_time(entry.at),
                    actor=entry.actor,
                    principal=entry.principal,
                    door=entry.door,
                    action=entry.action,
                    target=entry.target,
                    details=entry.details,
                )
                for entry in found[: filters.size]
            ],
            filters,
            more,
        )
