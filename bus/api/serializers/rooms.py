"""Rooms."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...protocol.names import NAME_RULE
from .base import FlagField, Page, StrictSerializer, TextField


class Room(serializers.Serializer[Any]):
    """A room, as the caller sees it."""

    room = serializers.CharField(help_text="Its name.")
    description = serializers.CharField(allow_blank=True)
    private = serializers.BooleanField(help_text="Invisible to those without a grant.")
    presence = serializers.BooleanField(
        allow_null=True, help_text="Whether joins and leaves are announced; null: as the setting says."
    )
    hardcoded = serializers.BooleanField(help_text="Built in; it stays.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    channels = serializers.IntegerField(help_text="Channels that the caller may know of.")
    participants = serializers.IntegerField(help_text="Connected clients in any of its channels.")


class RoomList(Page):
    """A page of rooms."""

    results = Room(many=True)


class NewRoom(StrictSerializer):
    """A room to be made."""

    room = TextField(max_length=64, help_text=NAME_RULE)
    description = TextField(max_length=500, required=False, allow_blank=True)
    private = FlagField(required=False, help_text="Invisible to those without a grant.")
    presence = FlagField(required=False, allow_null=True)


class RoomChanges(StrictSerializer):
    """What is to be changed of a room."""

    description = TextField(max_length=500, required=False, allow_blank=True)
    private = FlagField(required=False)
    presence = FlagField(required=False, allow_null=True)
