"""Channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from ..auth.permissions import Actor
from ..models import Channel, Client, Message, Room, validate_name
from ..protocol.names import Address
from ..services import channels as channel_service
from .base import DOOR, BusModelAdmin, InputFilter, actor_of, figure, list_link, page_link


class RoomNameFilter(InputFilter):
    """Channels of one room."""

    title = "room"
    parameter_name = "room"
    placeholder = "science"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Those of the room that was typed."""
        return queryset.filter(room__name=self.value()) if self.value() else queryset


if TYPE_CHECKING:
    ChannelForm = forms.ModelForm[Channel]
else:
    ChannelForm = forms.ModelForm


class NewChannelForm(ChannelForm):
    """A channel to be made, in a room that is there or is made with it."""

    room_name = forms.CharField(
        label="Room", max_length=64, validators=[validate_name], help_text="It is made if it is not there."
    )

    class Meta:
        model = Channel
        fields = ["name", "description", "type", "ephemeral", "retention_count", "retention_age", "metadata"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].validators.append(validate_name)

    def clean(self) -> dict[str, Any]:
        """A channel of that name must not be there."""
        values = super().clean() or self.cleaned_data
        room, name = values.get("room_name"), values.get("name")
        if room and name and Channel.objects.filter(room__name=room, name=name).exists():
            self.add_error("name", f"The channel {room}:{name} exists already.")
        return values


@admin.register(Channel)
class ChannelAdmin(BusModelAdmin[Channel]):
    """Channels with their figures; built-in ones are shown and stay."""

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
        ("What is kept", {"fields": ["ephemeral", "retention_count", "retention_age", "head", "epoch", "touched_at"]}),
        ("Your own values", {"fields": ["metadata"]}),
        ("Origin", {"fields": ["hardcoded", "created_at", "created_by"]}),
    ]
    new_fieldsets = [
        (None, {"fields": ["room_name", "name", "description", "type"]}),
        ("What is kept", {"fields": ["ephemeral", "retention_count", "retention_age"]}),
        ("Your own values", {"fields": ["metadata"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        """Channels that clients can join, with their number of members."""
        return (
            super()
            .get_queryset(request)
            .filter(kind=Channel.Kind.CHANNEL)
            .annotate(people=Count("memberships", filter=Q(memberships__client__node__isnull=False)))
        )

    @admin.display(description="channel", ordering="name")
    def address_text(self, channel: Channel) -> str:
        """Its address."""
        return str(channel)

    @admin.display(description="room", ordering="room__name")
    def room_link(self, channel: Channel) -> Any:
        """The way to its room."""
        return page_link(channel.room)

    @admin.display(description="members", ordering="people")
    def people(self, channel: Channel) -> Any:
        """Connected members, and the way to them."""
        return list_link(Client, figure(channel, "people"), channel=str(channel))

    @admin.display(description="messages", ordering="head")
    def message_count(self, channel: Channel) -> Any:
        """Messages ever, and the way to those that are kept."""
        return list_link(Message, channel.head, room=channel.room.name, channel=channel.name)

    @admin.display(description="look at")
    def look_at(self, channel: Channel) -> Any:
        """Links."""
        return format_html(
            "{} · {}",
            list_link(Message, "messages", room=channel.room.name, channel=channel.name),
            list_link(Client, "members", channel=str(channel)),
        )

    def get_form(self, request: HttpRequest, obj: Channel | None = None, change: bool = False, **kwargs: Any) -> Any:
        """A new channel has a form of its own."""
        if obj is None:
            kwargs["form"] = NewChannelForm
        return super().get_form(request, obj, change=change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """What there is to say of a new channel, or of one that is there."""
        return self.fieldsets if obj is not None else self.new_fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        """A channel keeps its address."""
        return self.readonly_fields if obj is not None else []

    def has_delete_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        """Built-in channels stay."""
        return super().has_delete_permission(request, obj) and not (obj is not None and obj.hardcoded)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        """By the service."""
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
        """By the service."""
        channel_service.delete_channel(actor, row.address, door=DOOR)
