"""Connected clients."""

from __future__ import annotations

from .base import StrictSerializer, TextField


class Disconnection(StrictSerializer):
    """Why a client is sent away."""

    reason = TextField(max_length=200, required=False, allow_blank=True, help_text="Told to the client.")
