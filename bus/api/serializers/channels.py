"""Channels."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...protocol.names import NAME_RULE
from .base import FlagField, ObjectField, Page, StrictSerializer, TextField, WholeField

#: Largest number of a column.
LARGEST = 2**31 - 1


class Retention(StrictSerializer):
    """How much of a channel's history is kept; null: as the server's setting says, 0: all."""

    count = WholeField(min_value=0, max_value=LARGEST, required=False, allow_null=True)
    age = WholeField(min_value=0, max_value=LARGEST, required=False, allow_null=True, help_text="Seconds.")


class Channel(serializers.Serializer[Any]):
    """A row of the list of channels."""

    room = serializers.CharField()
    channel = serializers.CharField()
    participants = serializers.IntegerField(help_text="Connected members.")
    description = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    type = serializers.CharField()
    hardcoded = serializers.BooleanField(help_text="Built in; it stays.")
    ephemeral = serializers.BooleanField(help_text="Messages are delivered but not kept.")
    messages = serializers.IntegerField(help_text="Messages ever: the head of its log.")
    last_activity = serializers.DateTimeField()


class ChannelList(Page):
    """A page of channels."""

    results = Channel(many=True)


class ChannelMetadata(serializers.Serializer[Any]):
    """What is known of a channel; keys of one's own are added to it."""

    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    type = serializers.CharField()
    hardcoded = serializers.BooleanField()
    description = serializers.CharField(allow_blank=True)
    ephemeral = serializers.BooleanField()
    retention = Retention()


class Participant(serializers.Serializer[Any]):
    """A member of a channel."""

    client_id = serializers.CharField()
    client_type = serializers.CharField()
    screen_name = serializers.CharField(allow_null=True)
    avatar = serializers.CharField(allow_null=True)
    joined_at = serializers.DateTimeField()
    last_activity = serializers.DateTimeField(allow_null=True)


class ChannelInfo(serializers.Serializer[Any]):
    """A channel with its members (for those who may see who is there) and the head of its log."""

    room = serializers.CharField()
    channel = serializers.CharField()
    participants = Participant(many=True, help_text="At most 1000 of them.")
    participant_count = serializers.IntegerField()
    metadata = ChannelMetadata()
    epoch = serializers.CharField(help_text="Changes only if the log was lost or rebuilt.")
    seq = serializers.IntegerField(help_text="The head: the seq of the newest message.")


class ChannelChanges(StrictSerializer):
    """What is to be changed of a channel."""

    description = TextField(max_length=500, required=False, allow_blank=True)
    metadata = ObjectField(required=False, help_text="Values of your own.")
    type = TextField(max_length=32, required=False, help_text="A word of your own for the kind of channel.")
    ephemeral = FlagField(required=False, help_text="Deliver without keeping: no seq, no history.")
    retention = Retention(required=False, help_text="How much is kept.")


class NewChannel(ChannelChanges):
    """A channel to be made; its room is made too if it is missing."""

    room = TextField(max_length=64, help_text=NAME_RULE)
    channel = TextField(max_length=64, help_text=NAME_RULE)
