"""The states of a connection."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a bus is doing."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"
