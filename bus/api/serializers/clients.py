"""The bodies of requests about connected clients."""

from __future__ import annotations

from .base import StrictSerializer, TextField


class Disconnection(StrictSerializer):
    """The reason for a disconnect."""

    reason = TextField(max_length=200, required=False, allow_blank=True, help_text="Text for the client.")
