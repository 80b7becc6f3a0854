"""The bodies of requests about connected clients."""

from __future__ import annotations

from .base import NumberField, StrictSerializer, TextField, WholeField


class Disconnection(StrictSerializer):
    """The reason for a disconnect."""

    reason = TextField(max_length=200, required=False, allow_blank=True, help_text="Text for the client.")


class NewStatus(StrictSerializer):
    """What the client does now. An absent field is cleared."""

    status = TextField(max_length=32, required=False, allow_null=True, help_text="One word, such as working.")
    task = TextField(
        max_length=200, required=False, allow_null=True, allow_blank=True, help_text="The task that it works on."
    )
    text = TextField(max_length=500, required=False, allow_null=True, allow_blank=True, help_text="A text for people.")
    tokens = WholeField(
        min_value=0, max_value=2**53 - 1, required=False, allow_null=True, help_text="Tokens that it has used so far."
    )
    ttl = NumberField(min_value=1, max_value=3600, help_text="Seconds after which the status ends by itself.")
    channel = TextField(
        max_length=130,
        required=False,
        allow_null=True,
        help_text="Without a connection: the channel whose members see the client, as room:channel.",
    )
