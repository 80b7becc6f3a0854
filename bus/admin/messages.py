"""Admin pages of messages: list, search, export."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Max, Q, QuerySet
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html

from ..conf.settings import config
from ..models import Channel, Client, Message
from ..protocol.names import WHOLE
from ..services import audit
from .base import (
    DOOR,
    InputFilter,
    ReadOnlyAdmin,
    UsualFilter,
    actor_of,
    list_link,
    page_link,
    pretty,
    readable_channels,
)
from .export import FORMATS, export

#: Without a channel, the list covers this many of the newest messages. A search in a whole large log would take minutes.
WINDOW = 100_000


class RoomFilter(InputFilter):
    """Filter messages by room."""

    title = "room"
    parameter_name = "room"
    placeholder = "science"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the messages of the given room."""
        return queryset.filter(channel__room__name=self.value()) if self.value() else queryset


class OriginFilter(UsualFilter):
    """Filter out the bus's own messages, which would soon fill the list."""

    title = "about"
    parameter_name = "about"
    usual = "messages of clients"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the choices besides the default."""
        return [("bus", "messages of the bus"), ("all", "all messages")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the chosen messages. A filter by room or channel overrides this one."""
        if self.value() == "bus":
            return queryset.filter(channel__room__name=config().system_room)
        if (
            self.value() == "all"
            or request.GET.get(RoomFilter.parameter_name)
            or request.GET.get(ChannelFilter.parameter_name)
        ):
            return queryset
        return queryset.exclude(channel__room__name=config().system_room)


class ChannelFilter(InputFilter):
    """Filter messages by channel."""

    title = "channel"
    parameter_name = "channel"
    placeholder = "explore"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the messages of the given channel, by name or as room:channel."""
        room, colon, name = (self.value() or "").partition(":")
        if colon:
            return queryset.filter(channel__room__name=room, channel__name=name)
        return queryset.filter(channel__name=room) if room else queryset


class SenderFilter(InputFilter):
    """Filter messages by sender."""

    title = "sender"
    parameter_name = "sender"
    placeholder = "my-client-1"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the messages of the given client_id."""
        return queryset.filter(sender=self.value()) if self.value() else queryset


class TypeFilter(InputFilter):
    """Filter messages by type."""

    title = "type"
    parameter_name = "type"
    placeholder = "event"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the messages of the given type."""
        return queryset.filter(type=self.value()) if self.value() else queryset


class AgeFilter(admin.SimpleListFilter):
    """Filter messages by age."""

    title = "time"
    parameter_name = "within"
    AGES = {"10m": 600, "1h": 3600, "1d": 86_400, "7d": 7 * 86_400}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """List the periods."""
        return [("10m", "last 10 minutes"), ("1h", "last hour"), ("1d", "last day"), ("7d", "last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Return the messages of the chosen period."""
        seconds = self.AGES.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - timedelta(seconds=seconds)) if seconds else queryset


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin[Message]):
    """The logs of rooms and channels. Private messages belong to their sender and target, and are not shown."""

    list_display = ["at", "channel_link", "seq", "type", "sender_link", "text"]
    list_display_links = ["at", "seq"]
    list_filter = [OriginFilter, RoomFilter, ChannelFilter, SenderFilter, TypeFilter, AgeFilter]
    search_fields = ["frame"]
    search_help_text = "Search for a part of the text, payload or id."
    ordering = ["-id"]
    sortable_by = ()
    # Each message may be as large as a frame.
    list_max_show_all = 50
    fieldsets = [
        (None, {"fields": ["channel_link", "seq", "uid", "type", "sender_link", "created_at"]}),
        ("Delivered frame", {"fields": ["frame_text"]}),
    ]
    readonly_fields = ["channel_link", "seq", "uid", "type", "sender_link", "created_at", "frame_text"]

    # --- which messages ---------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """Return the messages that the user may read."""
        rows = super().get_queryset(request).select_related("channel__room").exclude(channel__kind=Channel.Kind.INBOX)
        readable = readable_channels(actor_of(request))
        return rows if readable is None else rows.filter(channel__in=readable)

    @staticmethod
    def _floor(request: HttpRequest) -> int:
        """Return the id above which messages are shown. 0 means all messages."""
        if request.GET.get("channel") or getattr(request, "_arqonbus_export", False):
            return 0
        newest: int = Message.objects.aggregate(newest=Max("id"))["newest"] or 0
        return max(0, newest - WINDOW)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        """Return the messages with all words of the search, in the window unless a channel is chosen."""
        floor = self._floor(request)
        if floor:
            queryset = queryset.filter(id__gt=floor)
        for word in search_term.split():
            queryset = queryset.filter(Q(frame__icontains=word))
        return queryset, False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the list with links to the exports. A note says if the list leaves out old messages."""
        if request.method == "GET" and self._floor(request):
            text = f"This list covers the newest {WINDOW:,} messages. Choose a channel to see all of its messages."
            self.message_user(request, text, messages.INFO)
        query = request.GET.urlencode()
        ways = [
            (label, f"{reverse('admin:bus_message_export', args=[name])}?{query}")
            for name, label in (("csv", "Export as CSV"), ("jsonl", "Export as JSON Lines"))
        ]
        return super().changelist_view(request, {"exports": ways, **(extra_context or {})})

    # --- export ---------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """Add the URLs of the exports."""
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/<str:form>/", view, name="bus_message_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """Stream the filtered list as a file."""
        if form not in FORMATS or not self.has_view_permission(request):
            raise Http404
        request._arqonbus_export = True  # type: ignore[attr-defined] # the whole log, not just the window
        rows = self.get_changelist_instance(request).get_queryset(request)
        filters = {key: request.GET[key] for key in request.GET}
        audit.record(actor_of(request), DOOR, "export_messages", filters.get("channel") or "*", form=form, **filters)
        return export(request, rows, form)

    # --- cells ------------------------------------------------------------------------------------------------------

    @admin.display(description="time", ordering="id")
    def at(self, message: Message) -> str:
        """Show the time in milliseconds."""
        return timezone.localtime(message.created_at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    @admin.display(description="channel")
    def channel_link(self, message: Message) -> Any:
        """Link to the channel, or to the room of a whole-room message."""
        channel = message.channel
        # A long address wraps at the colon.
        shown = format_html("{}:<wbr>{}", channel.room.name, channel.name)
        if channel.kind == Channel.Kind.CHANNEL:
            return page_link(channel, shown)
        return page_link(channel.room, shown) if channel.room.name != WHOLE else "all clients"

    @admin.display(description="sender")
    def sender_link(self, message: Message) -> Any:
        """Link to the sender."""
        return list_link(Client, message.sender, q=message.sender)

    @admin.display(description="text")
    def text(self, message: Message) -> Any:
        """Show the beginning of the text or payload."""
        frame = message.as_dict()
        said = frame.get("message", frame.get("payload"))
        shown = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return format_html('<span class="bus-text">{}</span>', shown if len(shown) <= 120 else shown[:119] + "…")

    @admin.display(description="frame")
    def frame_text(self, message: Message) -> Any:
        """Show the whole frame."""
        return pretty(message.as_dict())
