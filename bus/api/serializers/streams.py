"""The bodies of requests about streamed messages."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from ...protocol.inbound import COMPLETE, ENDS
from .base import FlagField, ObjectField, StrictSerializer


class StreamMode(serializers.Serializer[Any]):
    """How a message grows."""

    mode = serializers.ChoiceField(
        choices=["text", "parts"], required=False, help_text="By texts, or by JSON objects. The default is text."
    )


class _Part(serializers.Serializer[Any]):
    delta = serializers.CharField(
        required=False, allow_blank=True, trim_whitespace=False, help_text="In mode text: what is added to the text."
    )
    part = ObjectField(required=False, help_text="In mode parts: the next JSON object.")
    took = serializers.ListField(
        child=serializers.CharField(max_length=160),
        required=False,
        max_length=100,
        help_text="Ids of messages that steer the stream, and that you have taken.",
    )
    token = serializers.CharField(
        required=False, max_length=256, help_text="The token of the adoption, if there was one."
    )


class StreamAppend(_Part):
    """The next part: `delta` or `part`."""

    n = serializers.IntegerField(min_value=1, max_value=2**53 - 1, help_text="Number of the part: `have` + 1.")


class StreamEnd(_Part):
    """The end, with a last part or without one."""

    n = serializers.IntegerField(min_value=0, max_value=2**53 - 1, help_text="Number of the last part.")
    state = serializers.ChoiceField(choices=list(ENDS), required=False, help_text=f"The default is {COMPLETE}.")
    payload = ObjectField(required=False, help_text="The payload of the end.")
    id = serializers.CharField(required=False, max_length=128, help_text="Your own id of the end.")


class StreamAdoption(StrictSerializer):
    """How to go on with a streamed message."""

    keep = FlagField(
        required=False, help_text="Keep the parts so far. The default is true. With false the message starts over."
    )
