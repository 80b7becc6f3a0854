"""Messages, as they are sent and as they were delivered."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .base import ObjectField


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
class TargetsField(serializers.JSONField):
    """A client_id or a list of them."""


class ChannelMessageToSend(serializers.Serializer[Any]):
    """A message, in either dialect of the socket. Keys of your own are passed on inside `metadata`."""

    type = serializers.CharField(required=False, max_length=64, help_text="event without it; system is for admins.")
    id = serializers.CharField(
        required=False, max_length=128, help_text="Your own id: sent again, it is not published twice."
    )
    message = serializers.JSONField(required=False, help_text="A text.")
    payload = ObjectField(required=False, help_text="An object, passed on byte for byte.")
    metadata = ObjectField(required=False)


class MessageToSend(ChannelMessageToSend):
    """A message with where it goes: `room` and `channel` (a room alone: the whole room), or `to` for private ones."""

    room = serializers.CharField(required=False, help_text="A room, or room:channel.")
    channel = serializers.CharField(required=False, help_text="A channel of `room`, or room:channel.")
    to = TargetsField(required=False, help_text="With type private: a client_id or a list of them.")


class ChannelBatch(serializers.Serializer[Any]):
    """Several messages for one channel, published together and in this order, or not at all."""

    messages = ChannelMessageToSend(many=True)


class Batch(serializers.Serializer[Any]):
    """Several messages, published together and in this order, or not at all."""

    messages = MessageToSend(many=True)
