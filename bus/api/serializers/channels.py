"""The bodies of requests about channels."""

from __future__ import annotations

from rest_framework.serializers import ChoiceField

from ...protocol.names import NAME_RULE
from .base import FlagField, ObjectField, StrictSerializer, TextField, WholeField

#: The largest number that the database column holds.
LARGEST = 2**31 - 1


class Retention(StrictSerializer):
    """The limits of a channel's history. null: the setting of the server; 0: no limit."""

    count = WholeField(min_value=0, max_value=LARGEST, required=False, allow_null=True)
    age = WholeField(
        min_value=0, max_value=LARGEST, required=False, allow_null=True, help_text="Maximum age of messages in seconds."
    )


class ChannelChanges(StrictSerializer):
    """The changes to a channel."""

    description = TextField(max_length=500, required=False, allow_blank=True)
    metadata = ObjectField(required=False, help_text="Your own values.")
    type = TextField(max_length=32, required=False, help_text="Your own word for the kind of channel.")
    ephemeral = FlagField(required=False, help_text="Deliver messages without storing them: no seq, no history.")
    retention = Retention(required=False, help_text="Limits of the history.")
    presence = ChoiceField(
        choices=["names", "counts", "none"],
        required=False,
        allow_null=True,
        help_text="How much members learn of one another. null: names, as the room says.",
    )
    work = ObjectField(
        required=False,
        allow_null=True,
        help_text="The rule of a work channel: `lease`, `attempts`, `hold`, `dead`. null: no work channel.",
    )


class NewChannel(ChannelChanges):
    """The new channel. A missing room is created too."""

    room = TextField(max_length=64, help_text=NAME_RULE)
    channel = TextField(max_length=64, help_text=NAME_RULE)
