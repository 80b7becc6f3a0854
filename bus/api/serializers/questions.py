"""The bodies of questions and replies."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from .base import FlagField, ObjectField


class _Content(serializers.Serializer[Any]):
    id = serializers.CharField(
        required=False, max_length=128, help_text="Your own id. A repeated id is not published again."
    )
    message = serializers.JSONField(required=False, help_text="The text.")
    payload = ObjectField(required=False, help_text="Any JSON object. Its bytes are passed on unchanged.")
    metadata = ObjectField(required=False)
    traceparent = serializers.CharField(required=False, help_text="The trace context, in the form of the W3C.")
    tracestate = serializers.CharField(required=False)


class QuestionToAsk(_Content):
    """A question: `to` a client, or to the `address` of a work channel."""

    to = serializers.CharField(required=False, max_length=64, help_text="The client_id that is asked.")
    address = serializers.CharField(required=False, help_text="A work channel, as room:channel.")
    timeout = serializers.FloatField(
        required=False, min_value=0.1, help_text="Seconds until the question ends without an answer. The default is 30."
    )
    durable = FlagField(
        required=False, help_text="Ask also if nobody is connected who could answer. The default is false."
    )
    correlation = serializers.CharField(
        required=False, max_length=160, help_text="A text of your own, which comes back with the reply."
    )


class ReplyToSend(_Content):
    """The answer to a question. An `error` says why there is none."""

    error = serializers.CharField(required=False, max_length=2000)
    reply_to = serializers.CharField(
        required=False, max_length=64, help_text="The asker, needed where several clients chose the same id."
    )
