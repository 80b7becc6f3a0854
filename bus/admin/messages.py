"""Messages: looked at, searched, exported."""

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

from ..auth.permissions import HISTORY, can
from ..conf.settings import config
from ..models import Channel, Client, Message
from ..protocol.names import WHOLE
from ..services import audit
from .base import DOOR, InputFilter, ReadOnlyAdmin, UsualFilter, actor_of, list_link, page_link, pretty
from .export import FORMATS, export

#: Without a channel, the newest so many messages are looked through; a search over all of a large log would take minutes.
WINDOW = 100_000


class RoomFilter(InputFilter):
    """Messages of a room."""

    title = "room"
    parameter_name = "room"
    placeholder = "science"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Those of the room that was typed."""
        return queryset.filter(channel__room__name=self.value()) if self.value() else queryset


class OriginFilter(UsualFilter):
    """Messages of clients; what the bus tells of itself would soon fill the list."""

    title = "about"
    parameter_name = "about"
    usual = "everything but the bus itself"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Those of the bus's own room, or both."""
        return [("bus", "the bus itself"), ("all", "everything")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """The chosen ones. Whoever named a room or channel gets that one."""
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
    """Messages of a channel."""

    title = "channel"
    parameter_name = "channel"
    placeholder = "explore"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Those of the channel that was typed, by name or as room:channel."""
        room, colon, name = (self.value() or "").partition(":")
        if colon:
            return queryset.filter(channel__room__name=room, channel__name=name)
        return queryset.filter(channel__name=room) if room else queryset


class SenderFilter(InputFilter):
    """Messages of a sender."""

    title = "sender"
    parameter_name = "sender"
    placeholder = "my-client-1"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Those of the client_id that was typed."""
        return queryset.filter(sender=self.value()) if self.value() else queryset


class TypeFilter(InputFilter):
    """Messages of a type."""

    title = "type"
    parameter_name = "type"
    placeholder = "event"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Those of the type that was typed."""
        return queryset.filter(type=self.value()) if self.value() else queryset


class AgeFilter(admin.SimpleListFilter):
    """Messages of the last while."""

    title = "time"
    parameter_name = "within"
    AGES = {"10m": 600, "1h": 3600, "1d": 86_400, "7d": 7 * 86_400}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Spans of time."""
        return [("10m", "last 10 minutes"), ("1h", "last hour"), ("1d", "last day"), ("7d", "last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        """Those that are young enough."""
        seconds = self.AGES.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - timedelta(seconds=seconds)) if seconds else queryset


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin[Message]):
    """The logs of rooms and channels. Private messages are their two sides' and are not shown."""

    list_display = ["at", "channel_link", "seq", "type", "sender_link", "text"]
    list_display_links = ["at", "seq"]
    list_filter = [OriginFilter, RoomFilter, ChannelFilter, SenderFilter, TypeFilter, AgeFilter]
    search_fields = ["frame"]
    search_help_text = "A part of the message's text, payload or id."
    ordering = ["-id"]
    sortable_by = ()
    # Each may be as large as a frame.
    list_max_show_all = 50
    fieldsets = [
        (None, {"fields": ["channel_link", "seq", "uid", "type", "sender_link", "created_at"]}),
        ("As it was delivered", {"fields": ["frame_text"]}),
    ]
    readonly_fields = ["channel_link", "seq", "uid", "type", "sender_link", "created_at", "frame_text"]

    # --- which messages ---------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """What the user may read, the newest of it where no channel is chosen."""
        rows = super().get_queryset(request).select_related("channel__room").exclude(channel__kind=Channel.Kind.INBOX)
        actor = actor_of(request)
        if not actor.admin:
            channels = Channel.objects.select_related("room").exclude(kind=Channel.Kind.INBOX)
            rows = rows.filter(
                channel__in=[
                    channel.pk
                    for channel in channels
                    if can(actor, HISTORY, channel.address, private=channel.room.private)
                ]
            )
        return rows

    @staticmethod
    def _floor(request: HttpRequest) -> int:
        """Messages up to this id are not looked at; 0 when all are."""
        if request.GET.get("channel") or getattr(request, "_arqonbus_export", False):
            return 0
        newest: int = Message.objects.aggregate(newest=Max("id"))["newest"] or 0
        return max(0, newest - WINDOW)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        """Messages with the term; within the window unless a channel is chosen."""
        floor = self._floor(request)
        if floor:
            queryset = queryset.filter(id__gt=floor)
        for word in search_term.split():
            queryset = queryset.filter(Q(frame__icontains=word))
        return queryset, False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list, with the ways out, and a word where it does not look at everything."""
        if request.method == "GET" and self._floor(request):
            text = (
                f"The newest {WINDOW:,} messages are shown and searched. Choose a channel to see all of its messages."
            )
            self.message_user(request, text, messages.INFO)
        query = request.GET.urlencode()
        ways = [
            (label, f"{reverse('admin:bus_message_export', args=[name])}?{query}")
            for name, label in (("csv", "Export as CSV"), ("jsonl", "Export as JSON Lines"))
        ]
        return super().changelist_view(request, {"exports": ways, **(extra_context or {})})

    # --- ways out ---------------------------------------------------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """The exports."""
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/<str:form>/", view, name="bus_message_export"), *super().get_urls()]

    def export_view(self, request: HttpRequest, form: str) -> HttpResponseBase:
        """What the list shows, filters and search included, as a file; as a stream, however much it is."""
        if form not in FORMATS or not self.has_view_permission(request):
            raise Http404
        request._arqonbus_export = True  # type: ignore[attr-defined] # all of it, not just the window
        rows = self.get_changelist_instance(request).get_queryset(request)
        filters = {key: request.GET[key] for key in request.GET}
        audit.record(actor_of(request), DOOR, "export_messages", filters.get("channel") or "*", form=form, **filters)
        return export(request, rows, form)

    # --- cells ------------------------------------------------------------------------------------------------------

    @admin.display(description="time", ordering="id")
    def at(self, message: Message) -> str:
        """To the millisecond."""
        return timezone.localtime(message.created_at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]

    @admin.display(description="channel")
    def channel_link(self, message: Message) -> Any:
        """The way to its channel, or for a whole room to the room."""
        channel = message.channel
        # A long address breaks between its names.
        shown = format_html("{}:<wbr>{}", channel.room.name, channel.name)
        if channel.kind == Channel.Kind.CHANNEL:
            return page_link(channel, shown)
        return page_link(channel.room, shown) if channel.room.name != WHOLE else "everybody"

    @admin.display(description="sender")
    def sender_link(self, message: Message) -> Any:
        """The way to the sender."""
        return list_link(Client, message.sender, q=message.sender)

    @admin.display(description="text")
    def text(self, message: Message) -> Any:
        """The beginning of what it says."""
        frame = message.as_dict()
        said = frame.get("message", frame.get("payload"))
        shown = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return format_html('<span class="bus-text">{}</span>', shown if len(shown) <= 120 else shown[:119] + "…")

    @admin.display(description="frame")
    def frame_text(self, message: Message) -> Any:
        """All of it."""
        return pretty(message.as_dict())
