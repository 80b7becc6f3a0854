"""Names and addresses. Only this module knows their spelling.

A *room* holds *channels*. ``science:explore`` is the address of channel ``explore`` in room ``science``. Three kinds of
address are reserved. ``science:*`` is the log of messages to the whole room, and ``*:*`` that of messages to everybody.
``pm:<client_id>`` is the inbox of a client.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WHOLE = "*"
INBOX_ROOM = "pm"

# "-", "/" and "." are ordinary characters of a name. ":" separates room and channel. "*" has the meanings above.
_NAME = re.compile(r"[A-Za-z0-9_\-./]{1,64}", re.ASCII)
_CLIENT_ID = re.compile(r"[A-Za-z0-9_\-.@]{1,64}", re.ASCII)

#: The server's client id on the wire. No client can have it, or an id that readers would mistake for it.
SERVER = "arqonbus_server"
_SERVERS = frozenset({"arqonbusserver", "arqonbus", "server", "system"})
#: The ids that the server makes for senders without a socket of the bus: anonymous REST callers and telemetry sockets.
_NO_SOCKET = re.compile(r"anonymous-[0-9a-f]{12}|telemetry-[0-9a-f]{16}", re.ASCII | re.IGNORECASE)
#: The id that the server makes for a connection that registers without a client id.
_MADE_UP = re.compile(r"client-[0-9a-f]{16}", re.ASCII | re.IGNORECASE)

NAME_RULE = "1 to 64 letters, digits and _ - . /"
CLIENT_ID_RULE = "1 to 64 letters, digits and _ - . @"


class Address(NamedTuple):
    """The address of a log: the names of a room and a channel."""

    room: str
    channel: str

    def __str__(self) -> str:
        return f"{self.room}:{self.channel}"

    @property
    def is_inbox(self) -> bool:
        """Whether this is ``pm:<client_id>``."""
        return self.room == INBOX_ROOM

    @property
    def is_whole_room(self) -> bool:
        """Whether this is ``room:*`` (and not ``*:*``)."""
        return self.channel == WHOLE and self.room != WHOLE

    @property
    def is_everyone(self) -> bool:
        """Whether this is ``*:*``."""
        return self.room == WHOLE

    @property
    def is_channel(self) -> bool:
        """Whether clients can join it by name."""
        return self.channel != WHOLE and self.room not in (WHOLE, INBOX_ROOM)


DEFAULT_ADDRESS = Address("science", "general")
EVERYONE = Address(WHOLE, WHOLE)


def is_name(text: object) -> bool:
    """Whether ``text`` can name a room or a channel."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def is_client_id(text: object) -> bool:
    """Whether ``text`` can be a ``client_id``."""
    return isinstance(text, str) and _CLIENT_ID.fullmatch(text) is not None


def is_reserved(client_id: str) -> bool:
    """Whether a client id is the server's, looks like it (``ArqonBus-Server``), or has the form of a generated one."""
    plain = "".join(filter(str.isalnum, client_id)).lower()
    return plain in _SERVERS or _NO_SOCKET.fullmatch(client_id) is not None or is_made_up(client_id)


def is_made_up(client_id: str) -> bool:
    """Whether a client id has the form that the server generates. A client that comes back under such an id must prove it."""
    return _MADE_UP.fullmatch(client_id) is not None


def inbox(client_id: str) -> Address:
    """The address of a client's inbox."""
    return Address(INBOX_ROOM, client_id)


def whole_room(room: str) -> Address:
    """The address of the log of messages to the whole room."""
    return Address(room, WHOLE)


def parse_address(text: str) -> Address | None:
    """``room:channel``, ``room:*``, ``*:*`` or ``pm:<client_id>`` as an address. None for any other text."""
    room, colon, channel = text.partition(":")
    if not colon:
        return None
    if room == WHOLE:
        return EVERYONE if channel == WHOLE else None
    if room == INBOX_ROOM:
        return Address(room, channel) if is_client_id(channel) else None
    if not is_name(room) or not (channel == WHOLE or is_name(channel)):
        return None
    return Address(room, channel)
