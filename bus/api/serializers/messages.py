"""The bodies of requests that publish messages."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .base import ObjectField
from .streams import StreamMode


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
class TargetsField(serializers.JSONField):
    """A client_id or a list of client_ids."""


class ChannelMessageToSend(serializers.Serializer[Any]):
    """A message in either dialect of the socket. Unknown keys are passed on inside `metadata`."""

    type = serializers.CharField(
        required=False, max_length=64, help_text="The default is event. Only admins may send system."
    )
    id = serializers.CharField(
        required=False, max_length=128, help_text="Your own id. A repeated id is not published again."
    )
    message = serializers.JSONField(required=False, help_text="The text.")
    payload = ObjectField(required=False, help_text="Any JSON object. Its bytes are passed on unchanged.")
    metadata = ObjectField(required=False)
    stream = StreamMode(required=False, help_text="Open a stream: the message grows by appends.")
    steer = serializers.CharField(
        required=False, max_length=160, help_text="Id of a streamed message whose owner shall get this message first."
    )
    of = serializers.CharField(required=False, max_length=160, help_text="For type amend: the id of another message.")
    of_seq = serializers.IntegerField(required=False, min_value=1, help_text="For type amend: its seq.")
    do = serializers.ChoiceField(
        required=False, choices=["edit", "delete", "react", "unreact"], help_text="For type amend: what to do with it."
    )
    reaction = serializers.CharField(required=False, max_length=64, help_text="For react and unreact.")


class MessageToSend(ChannelMessageToSend):
    """A message with its address: `room` and `channel`, a `room` alone for the whole room, or `to` for private messages."""

    room = serializers.CharField(required=False, help_text="A room, or room:channel.")
    channel = serializers.CharField(required=False, help_text="A channel of `room`, or room:channel.")
    to = TargetsField(required=False, help_text="For type private: a client_id or a list of client_ids.")


class ChannelBatch(serializers.Serializer[Any]):
    """Several messages to one channel. Either all are published, in this order, or none."""

    messages = ChannelMessageToSend(many=True)


class Batch(serializers.Serializer[Any]):
    """Several messages. Either all are published, in this order, or none."""

    messages = MessageToSend(many=True)
