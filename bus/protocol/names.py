"""Names and addresses. Only this module knows their spelling.

A *room* holds *channels*; ``science:explore`` is the address of channel ``explore`` in room ``science``. Three kinds
of address are reserved: ``science:*`` is the log of whole-room messages, ``*:*`` that of messages to everybody, and
``pm:<client_id>`` the inbox of a client.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WHOLE = "*"
INBOX_ROOM = "pm"

# "-" and "/" and "." are ordinary letters of a name; ":" only separates; "*" has the meanings above.
_NAME = re.compile(r"[A-Za-z0-9_\-./]{1,64}", re.ASCII)
_CLIENT_ID = re.compile(r"[A-Za-z0-9_\-.@]{1,64}", re.ASCII)

#: Who the server is on the wire; no client can be it, nor what readers would take for it.
SERVER = "arqonbus_server"
_SERVERS = frozenset({"arqonbusserver", "arqonbus", "server", "system"})
#: How the server calls those who speak without a socket of the bus: nobody, or a telemetry socket.
_NO_SOCKET = re.compile(r"anonymous-[0-9a-f]{12}|telemetry-[0-9a-f]{16}", re.ASCII | re.IGNORECASE)
#: How it calls a connection that does not say who it is.
_MADE_UP = re.compile(r"client-[0-9a-f]{16}", re.ASCII | re.IGNORECASE)

NAME_RULE = "1 to 64 letters, digits and _ - . /"
CLIENT_ID_RULE = "1 to 64 letters, digits and _ - . @"


class Address(NamedTuple):
    """Where a log is: the pair of a room and a channel name."""

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
    """Whether a client id is the server's, looks like it (``ArqonBus-Server``), or is one that the server makes up."""
    plain = "".join(filter(str.isalnum, client_id)).lower()
    return plain in _SERVERS or _NO_SOCKET.fullmatch(client_id) is not None or is_made_up(client_id)


def is_made_up(client_id: str) -> bool:
    """Whether a client id is of those that the server makes up for connections: who comes back under one has to prove itself."""
    return _MADE_UP.fullmatch(client_id) is not None


def inbox(client_id: str) -> Address:
    """The address of a client's inbox."""
    return Address(INBOX_ROOM, client_id)


def whole_room(room: str) -> Address:
    """The address of the log of a room's whole-room messages."""
    return Address(room, WHOLE)


def parse_address(text: str) -> Address | None:
    """``room:channel`` (also ``room:*``, ``*:*``, ``pm:<client_id>``) as an address; None when it is not one."""
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
