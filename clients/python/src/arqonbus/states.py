"""The states of a connection."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The state of a connection."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"
