"""Connected clients."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from .base import Page, StrictSerializer, TextField


class Client(serializers.Serializer[Any]):
    """A connected client."""

    client_id = serializers.CharField()
    client_type = serializers.CharField()
    screen_name = serializers.CharField(allow_null=True)
    avatar = serializers.CharField(allow_null=True)
    channels = serializers.ListField(child=serializers.CharField(), help_text="Those whose members the caller may see.")
    connected_at = serializers.DateTimeField(allow_null=True)
    last_activity = serializers.DateTimeField(allow_null=True)
    personality = serializers.DictField(required=False, help_text="For admins.")


class ClientList(Page):
    """A page of connected clients."""

    results = Client(many=True)


class Disconnection(StrictSerializer):
    """Why a client is sent away."""

    reason = TextField(max_length=200, required=False, allow_blank=True, help_text="Told to the client.")
