"""What can be done on the bus: one function per verb, called by every door (socket, REST, admin, commands, Django code).

The functions are synchronous and use the database of the caller's thread; those that change something send notifications
after the commit. For Django code the names to import are here.
"""

from __future__ import annotations

from ..publishing.django import (
    abroadcast_to_channel,
    abroadcast_to_room,
    apublish,
    asend_private,
    broadcast_to_channel,
    broadcast_to_room,
    publish,
    send_private,
)
from ..shapes import Published

__all__ = [
    "Published",
    "abroadcast_to_channel",
    "abroadcast_to_room",
    "apublish",
    "asend_private",
    "broadcast_to_channel",
    "broadcast_to_room",
    "publish",
    "send_private",
]
