"""Admin pages of rooms."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.html import format_html

from ..auth.permissions import Actor
from ..models import Channel, Membership, Message, Room
from ..protocol.names import INBOX_ROOM, WHOLE
from ..services import rooms as room_service
from .base import DOOR, BusModelAdmin, actor_of, figure, list_link


def _of_room(rows: QuerySet[Any], path: str, figure: Any) -> Coalesce:
    rows = rows.filter(**{path: OuterRef("pk")}).order_by().values(path)
    return Coalesce(Subquery(rows.annotate(figure=figure).values("figure"), output_field=IntegerField()), 0)


@admin.register(Room)
class RoomAdmin(BusModelAdmin[Room]):
    """Rooms with their figures. Built-in rooms cannot be deleted."""

    list_display = [
        "name",
        "private",
        "hardcoded",
        "channel_count",
        "people",
        "message_count",
        "created_at",
        "created_by",
    ]
    list_filter = ["private", "hardcoded"]
    search_fields = ["name", "description"]
    fields = ["name", "description", "private", "presence", "hardcoded", "created_at", "created_by", "look_at"]
    readonly_fields = ["hardcoded", "created_at", "created_by", "look_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Room]:
        """Return the rooms that clients can use, with their figures."""
        channels = Channel.objects.filter(kind=Channel.Kind.CHANNEL)
        here = Membership.objects.filter(client__node__isnull=False)
        return (
            super()
            .get_queryset(request)
            .exclude(name__in=(INBOX_ROOM, WHOLE))
            .annotate(
                channel_count=_of_room(channels, "room", Count("pk")),
                people=_of_room(here, "channel__room", Count("client", distinct=True)),
                message_count=_of_room(Channel.objects.all(), "room", Sum("head")),
            )
        )

    @admin.display(description="channels", ordering="channel_count")
    def channel_count(self, room: Room) -> str:
        """Show the number of channels, with a link to them."""
        return list_link(Channel, figure(room, "channel_count"), room=room.name)

    @admin.display(description="clients", ordering="people")
    def people(self, room: Room) -> int:
        """Show the number of connected clients in all channels of the room."""
        return figure(room, "people")

    @admin.display(description="messages", ordering="message_count")
    def message_count(self, room: Room) -> str:
        """Show the number of messages ever published, with a link to the stored ones."""
        return list_link(Message, figure(room, "message_count"), room=room.name)

    @admin.display(description="look at")
    def look_at(self, room: Room) -> Any:
        """Link to the channels and messages of the room."""
        return format_html(
            "{} · {}", list_link(Channel, "channels", room=room.name), list_link(Message, "messages", room=room.name)
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Room | None = None) -> list[str]:
        """Forbid to rename an existing room."""
        return [*self.readonly_fields, "name"] if obj is not None else list(self.readonly_fields)

    def get_fields(self, request: HttpRequest, obj: Room | None = None) -> Any:
        """Return the fields of a new or an existing room."""
        return self.fields if obj is not None else ["name", "description", "private", "presence"]

    def has_delete_permission(self, request: HttpRequest, obj: Room | None = None) -> bool:
        """Forbid to delete built-in rooms."""
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.hardcoded)

    def save_model(self, request: HttpRequest, obj: Room, form: Any, change: bool) -> None:
        """Save the room through the service."""
        if change:
            values = {field: form.cleaned_data[field] for field in form.changed_data}
            room_service.update_room(actor_of(request), obj.name, values, door=DOOR)
        else:
            made = room_service.create_room(actor_of(request), door=DOOR, **form.cleaned_data)
            obj.pk = made.pk

    def remove(self, actor: Actor, row: Room) -> None:
        """Delete the room through the service."""
        room_service.delete_room(actor, row.name, door=DOOR)
