"""The bodies of requests about rooms."""

from __future__ import annotations

from ...protocol.names import NAME_RULE
from .base import FlagField, StrictSerializer, TextField


class NewRoom(StrictSerializer):
    """The new room."""

    room = TextField(max_length=64, help_text=NAME_RULE)
    description = TextField(max_length=500, required=False, allow_blank=True)
    private = FlagField(required=False, help_text="Invisible to clients without a grant.")
    presence = FlagField(required=False, allow_null=True)


class RoomChanges(StrictSerializer):
    """The changes to a room."""

    description = TextField(max_length=500, required=False, allow_blank=True)
    private = FlagField(required=False)
    presence = FlagField(required=False, allow_null=True)
