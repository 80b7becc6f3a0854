"""The services of the bus: one function per verb, for sockets, REST, the admin, commands and Django code.

The functions are synchronous and use the database connection of the caller's thread. A function that changes something
sends its notifications after the commit. This package exports the functions for Django code.
"""

from __future__ import annotations

from ..publishing.django import (
    abroadcast_to_channel,
    abroadcast_to_room,
    apublish,
    apublish_all,
    asend_private,
    broadcast_to_channel,
    broadcast_to_room,
    publish,
    publish_all,
    send_private,
)
from ..shapes import Published

__all__ = [
    "Published",
    "abroadcast_to_channel",
    "abroadcast_to_room",
    "apublish",
    "apublish_all",
    "asend_private",
    "broadcast_to_channel",
    "broadcast_to_room",
    "publish",
    "publish_all",
    "send_private",
]
