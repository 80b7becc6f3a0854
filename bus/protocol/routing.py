"""Routing: the log of a message, as a pure function (docs/protocol.md, Where a message goes)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from .errors import BusError, ErrorCode
from .names import (
    CLIENT_ID_RULE,
    EVERYONE,
    INBOX_ROOM,
    NAME_RULE,
    WHOLE,
    Address,
    inbox,
    is_client_id,
    is_name,
    parse_address,
)

#: Two names of 64 characters and the colon between them.
LONGEST = 129


class Route(NamedTuple):
    """The route of a message: to the log of ``address``, or with ``targets`` (client ids) only to their inboxes."""

    address: Address
    targets: Sequence[str] | None = None

    def addresses(self, unknown: Sequence[str] = ()) -> list[Address]:
        """The logs that the message goes into, without the inboxes of ``unknown`` targets."""
        if self.targets is None:
            return [self.address]
        return [inbox(target) for target in self.targets if target not in unknown]


def resolve(room: str | None, channel: str | None, initial: Address) -> Address:
    """The address of a frame's ``room`` and ``channel``, by the rules of :func:`place`. Raises ``BusError`` INVALID_NAME."""
    return place(room, channel, initial).address


def place(room: str | None, channel: str | None, initial: Address) -> Route:
    """The route of a frame's ``room`` and ``channel``. ``initial`` is the address of a frame without both.

    The first rule that fits applies:

    1. A ``channel`` of the form ``r:c`` is the whole address.
    2. Any other channel lies in ``room`` (in its part before ``:``), or in the initial room.
    3. A ``room`` of the form ``r:c`` is the whole address.
    4. A room alone is the whole room.

    Empty strings count as absent, and the room ``*`` is everybody. A message to ``pm:<client_id>``, or to the channel ``pm`` of
    any room, is private: its ``targets`` are empty, and the caller fills them in. Raises ``BusError`` INVALID_NAME.
    """
    # A longer room cannot be remembered: beside a channel, it may have any text after its ":".
    if room is not None and len(room) > LONGEST:
        return _place(room, channel, initial)
    return _remembered(room, channel, initial)


def _place(room: str | None, channel: str | None, initial: Address) -> Route:
    address = _resolve(room, channel, initial)
    return Route(address, () if address.is_inbox or channel == INBOX_ROOM else None)


def _resolve(room: str | None, channel: str | None, initial: Address) -> Address:
    if channel:
        if ":" in channel:
            return _parsed(channel, "channel")
        if not room:
            return _checked(initial.room, channel)
        return _checked(room.partition(":")[0], channel)
    if room:
        if ":" in room:
            return _parsed(room, "room")
        return _checked(room, WHOLE)
    return initial


#: Most messages have one of a few addresses, so their routes are remembered. Errors are not.
_remembered = lru_cache(maxsize=4096)(_place)


def delivered_type(type: str, address: Address) -> str:
    """The delivered type of a message: an event to an inbox becomes a private message."""
    return "private" if type == "event" and address.is_inbox else type


def _parsed(text: str, field: str) -> Address:
    address = parse_address(text)
    if address is None:
        raise invalid_name(field, text)
    return address


def _checked(room: str, channel: str) -> Address:
    if room == WHOLE:
        if channel == WHOLE:
            return EVERYONE
        raise invalid_name("channel", channel, "A message to everybody has no channel. Leave `channel` out.")
    if room == INBOX_ROOM:
        if not is_client_id(channel):
            raise invalid_name("channel", channel, f"An inbox is pm:<client_id>. A client_id has {CLIENT_ID_RULE}")
    elif not is_name(room):
        raise invalid_name("room", room)
    elif channel != WHOLE and not is_name(channel):
        raise invalid_name("channel", channel)
    return Address(room, channel)


def invalid_name(field: str, value: object, message: str | None = None) -> BusError:
    """The error for an invalid name. It shows the first 80 characters of ``value``."""
    shown = str(value)[:80]
    text = message or f"{shown!r} is not a valid name. Use {NAME_RULE}"
    return BusError(ErrorCode.INVALID_NAME, text, [{"field": field, "value": shown, "message": text}])


def channel_not_found(address: Address) -> BusError:
    """The error for a missing channel. A hidden channel gives the same text, so that nobody can tell the two apart."""
    return BusError(ErrorCode.CHANNEL_NOT_FOUND, f"There is no channel {address}.", [{"address": str(address)}])
