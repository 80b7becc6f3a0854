"""The compiled path of a connection: which connections have one."""

from __future__ import annotations

from ..realtime.reader import Lane
from .connection import Connection


def lane_of(connection: Connection) -> Lane | None:
    """Return the lane of a new connection. None without the extension, or for a socket with a grammar of its own."""
    return None
