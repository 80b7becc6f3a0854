"""Admin pages of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from ..auth.permissions import Actor
from ..models import Channel, Client, Job, Message, Room, validate_name
from ..protocol.names import Address
from ..services import channels as channel_service
from .base import DOOR, BusModelAdmin, InputFilter, actor_of, figure, list_link, page_link


class RoomNameFilter(InputFilter):
    """Filter channels by room."""

    title = "room"
    parameter_name = "room"
    placeholder = "science"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the channels of the given room."""
        return queryset.filter(room__name=self.value()) if self.value() else queryset


if TYPE_CHECKING:
    ChannelForm = forms.ModelForm[Channel]
else:
    ChannelForm = forms.ModelForm


class NewChannelForm(ChannelForm):
    """Form for a new channel. The service creates a missing room."""

    room_name = forms.CharField(
        label="Room", max_length=64, validators=[validate_name], help_text="A missing room is created."
    )

    class Meta:
        model = Channel
        fields = [
            "name", "description", "type", "ephemeral", "retention_count", "retention_age", "presence", "work", "metadata",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].validators.append(validate_name)

    def clean(self) -> dict[str, Any]:
        """Check that the channel does not exist."""
        values = super().clean() or self.cleaned_data
        room, name = values.get("room_name"), values.get("name")
        if room and name and Channel.objects.filter(room__name=room, name=name).exists():
            self.add_error("name", f"The channel {room}:{name} already exists.")
        return values


@admin.register(Channel)
class ChannelAdmin(BusModelAdmin[Channel]):
    """Channels with their figures. Built-in channels cannot be deleted."""

    list_display = [
        "address_text", "room_link", "type", "people", "message_count", "ephemeral", "hardcoded", "touched_at", "created_by",
    ]  # fmt: skip
    list_filter = [RoomNameFilter, "hardcoded", "ephemeral", "type"]
    list_select_related = ["room"]
    search_fields = ["name", "description", "room__name"]
    readonly_fields = [
        "room_link",
        "name",
        "hardcoded",
        "created_at",
        "created_by",
        "epoch",
        "head",
        "touched_at",
        "look_at",
    ]
    fieldsets = [
        (None, {"fields": ["room_link", "name", "description", "type", "look_at"]}),
        (
            "Stored messages",
            {"fields": ["ephemeral", "retention_count", "retention_age", "head", "epoch", "touched_at"]},
        ),
        ("Presence", {"fields": ["presence"]}),
        ("Leased work", {"fields": ["work"]}),
        ("Metadata", {"fields": ["metadata"]}),
        ("Origin", {"fields": ["hardcoded", "created_at", "created_by"]}),
    ]
    new_fieldsets = [
        (None, {"fields": ["room_name", "name", "description", "type"]}),
        ("Stored messages", {"fields": ["ephemeral", "retention_count", "retention_age"]}),
        ("Presence", {"fields": ["presence"]}),
        ("Leased work", {"fields": ["work"]}),
        ("Metadata", {"fields": ["metadata"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        """Return the channels that clients can join, with the number of their members."""
        return (
            super()
            .get_queryset(request)
            .filter(kind=Channel.Kind.CHANNEL)
            .annotate(people=Count("memberships", filter=Q(memberships__client__node__isnull=False)))
        )

    @admin.display(description="channel", ordering="name")
    def address_text(self, channel: Channel) -> str:
        """Show the address."""
        return str(channel)

    @admin.display(description="room", ordering="room__name")
    def room_link(self, channel: Channel) -> Any:
        """Link to the room."""
        return page_link(channel.room)

    @admin.display(description="members", ordering="people")
    def people(self, channel: Channel) -> Any:
        """Show the number of connected members, with a link to them."""
        return list_link(Client, figure(channel, "people"), channel=str(channel))

    @admin.display(description="messages", ordering="head")
    def message_count(self, channel: Channel) -> Any:
        """Show the number of messages ever published, with a link to the stored ones."""
        return list_link(Message, channel.head, room=channel.room.name, channel=channel.name)

    @admin.display(description="look at")
    def look_at(self, channel: Channel) -> Any:
        """Link to the messages, members and jobs of the channel."""
        return format_html(
            "{} · {} · {}",
            list_link(Message, "messages", room=channel.room.name, channel=channel.name),
            list_link(Client, "members", channel=str(channel)),
            list_link(Job, "jobs", channel=str(channel)),
        )

    def get_form(self, request: HttpRequest, obj: Channel | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Use a separate form for a new channel."""
        if obj is None:
            kwargs["form"] = NewChannelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """Return the fields of a new or an existing channel."""
        return self.fieldsets if obj is not None else self.new_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """Forbid to change the address of an existing channel."""
        return self.readonly_fields if obj is not None else []

    def has_delete_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        """Forbid to delete built-in channels."""
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.hardcoded)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        """Save the channel through the service."""
        values = {field: form.cleaned_data[field] for field in channel_service.CHANGEABLE if field in form.cleaned_data}
        if values.get("metadata", {}) is None:
            values["metadata"] = {}
        if change:
            changed = {field: value for field, value in values.items() if field in form.changed_data}
            channel_service.update_channel(actor_of(request), obj.address, changed, door=DOOR)
        else:
            address = Address(form.cleaned_data["room_name"], obj.name)
            made = channel_service.create_channel(actor_of(request), address, door=DOOR, **values)
            obj.pk, obj.room = made.pk, Room.objects.get(pk=made.room_id)

    def remove(self, actor: Actor, row: Channel) -> None:
        """Delete the channel through the service."""
        channel_service.delete_channel(actor, row.address, door=DOOR)
