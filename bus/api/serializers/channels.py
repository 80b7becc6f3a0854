"""Channels."""

from __future__ import annotations

from ...protocol.names import NAME_RULE
from .base import FlagField, ObjectField, StrictSerializer, TextField, WholeField

#: Largest number of a column.
LARGEST = 2**31 - 1


class Retention(StrictSerializer):
    """How much of a channel's history is kept; null: as the server's setting says, 0: all."""

    count = WholeField(min_value=0, max_value=LARGEST, required=False, allow_null=True)
    age = WholeField(min_value=0, max_value=LARGEST, required=False, allow_null=True, help_text="Seconds.")


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
