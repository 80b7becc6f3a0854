"""Check that an address exists before a command uses it, and suggest similar ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..bus import Bus
from ..commands import ChannelInfo
from ..errors import Forbidden, NotFound
from ..messages import INBOX_ROOM, WHOLE, split_address
from .failures import NotThere


async def must_be_there(bus: Bus, addresses: Iterable[str]) -> None:
    """Raise ``NotThere`` for the first missing address, with similar ones.

    It skips inboxes: the server itself refuses a private message to an unknown client.
    """
    for address in addresses:
        room, channel = split_address(address)
        if room in (INBOX_ROOM, WHOLE):
            continue
        try:
            if channel == WHOLE:
                await bus.list_channels(room)
            else:
                await bus.history_page(address, limit=1)
        except Forbidden:
            continue  # The address exists.
        except NotFound:
            raise await _not_there(bus, room, channel, creatable=True) from None


async def members_of(bus: Bus, address: str) -> list[ChannelInfo]:
    """Return the channel, or the channels of the room that have members. Raises ``NotThere``."""
    room, channel = split_address(address)
    try:
        if channel != WHOLE:
            return [await bus.channel_info(address)]
        rows = await bus.list_channels(room)
    except NotFound:
        raise await _not_there(bus, room, channel, creatable=False) from None
    return [await bus.channel_info(f"{room}:{row['channel']}") for row in rows if row["participants"]]


async def _not_there(bus: Bus, room: str, channel: str, *, creatable: bool) -> NotThere:
    rows = await bus.list_channels()
    if channel == WHOLE:
        wanted, there = room, sorted({row["room"] for row in rows})
        text = f"There is no room {room}."
    else:
        wanted, there = f"{room}:{channel}", [f"{row['room']}:{row['channel']}" for row in rows]
        text = f"There is no channel {wanted}."
    alike = difflib.get_close_matches(wanted, there, n=3, cutoff=0.75)
    if not alike and channel != WHOLE:
        alike = [address for address in there if address.endswith(f":{channel}") or address.startswith(f"{room}:")][:3]
    return NotThere(f"{text} Did you mean {' or '.join(alike)}?" if alike else text, creatable=creatable)
