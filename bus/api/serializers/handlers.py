"""The bodies of requests about handlers."""

from __future__ import annotations

from rest_framework import serializers

from .base import StrictSerializer, TextField


class HandlerHelp(StrictSerializer):
    """What a handler shall do with its next message."""

    handler = TextField(max_length=100, help_text="The name of the handler.")
    next = serializers.ChoiceField(
        choices=["retry", "skip"], help_text="`retry`: try the message again at once. `skip`: go on behind it."
    )
