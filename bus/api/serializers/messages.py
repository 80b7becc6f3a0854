"""Messages, as they are sent and as they were delivered."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .base import ObjectField, Page


class Message(serializers.Serializer[Any]):
    """A message as it was delivered; `message`, `metadata` and `client_timestamp` are there when the sender gave them."""

    version = serializers.CharField()
    id = serializers.CharField()
    type = serializers.CharField()
    room = serializers.CharField()
    channel = serializers.CharField()
    timestamp = serializers.DateTimeField(help_text="The server's.")
    seq = serializers.IntegerField(help_text="Its place in the channel's log.")
    payload = serializers.DictField()
    message = serializers.JSONField(required=False)
    metadata = serializers.DictField(required=False)
    client_timestamp = serializers.CharField(required=False)
    unreadable = serializers.BooleanField(
        required=False, help_text="True: an older version kept it in a form that cannot be read; `payload` is empty."
    )

    def get_fields(self) -> Any:
        """The fields above, and ``from``, which Python does not let stand there."""
        return {**super().get_fields(), "from": serializers.CharField(help_text="The sender's client_id.")}


class MessageList(Page):
    """A page of messages. With a filter a page may hold fewer than asked for, and still have a next one."""

    results = Message(many=True)


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


class Published(serializers.Serializer[Any]):
    """Where a message is now."""

    id = serializers.CharField(help_text="The id under which it is delivered.")
    room = serializers.CharField()
    channel = serializers.CharField()
    seq = serializers.IntegerField(allow_null=True, help_text="Its place in the log; null on ephemeral channels.")
    duplicate = serializers.BooleanField(help_text="It was there already; `seq` is that of the first time.")
    unproven = serializers.BooleanField(
        help_text="A letter to a client that is away, nobody vouches for, and gets it only if it brings its resume token."
    )


class Delivery(serializers.Serializer[Any]):
    """Where the messages of a batch, or the copies of a private message, are now, in their order."""

    results = Published(many=True)
    unknown_targets = serializers.ListField(
        child=serializers.CharField(), help_text="The unknown targets. The other targets got the message."
    )
