"""What a client that comes back had before: its memberships, and its position in each log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...directory.channels import ChannelRef
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import Address, parse_address
from ...protocol.registration import MARK, Registration
from ...realtime.hub import Stream
from ..client import ClientState
from ..delivery.channels import Channels
from ..delivery.replay import Replays, Start, check_since
from ..delivery.streams import Streams, Vanished
from .members import Members
from .memberships import Memberships
from .presence_tables import PresenceTables
from .rights import Rights

#: Where a client was in each log: ``{address: {epoch, seq}}``.
Positions = dict[str, dict[str, Any]]
#: The streams that a client will receive, each with the channel it was opened for.
Received = dict[Stream, ChannelRef]


class Entered(NamedTuple):
    """A channel that a client entered."""

    ref: ChannelRef
    participants: int


class Resumptions:
    """Makes a client that comes back a member of its channels again."""

    def __init__(
        self,
        channels: Channels,
        streams: Streams,
        replays: Replays,
        rights: Rights,
        members: Members,
        memberships: Memberships,
        tables: PresenceTables,
    ) -> None:
        self._channels = channels
        self._streams = streams
        self._replays = replays
        self._rights = rights
        self._members = members
        self._memberships = memberships
        self._tables = tables

    async def rejoin(self, client: ClientState, positions: Iterable[str]) -> tuple[list[Entered], Received]:
        """Make ``client`` a member of the channels among the addresses ``positions``, and open their streams.

        Raises ``BusError`` UNAVAILABLE where the database cannot say which channels exist or are allowed.
        """
        entered: list[Entered] = []
        received: Received = {}
        for channel in await self._write_memberships(client, positions):
            refs = [channel.ref, await self._channels.room_log(channel.ref)]
            try:
                opened = await self._streams.open(refs)
            except Vanished:
                self._memberships.remove(client, channel.ref)
                continue
            entered.append(channel)
            received |= dict(zip(opened, refs, strict=True))
        return entered, received

    async def _write_memberships(self, client: ClientState, positions: Iterable[str]) -> list[Entered]:
        found = [ref for text in positions if (ref := await self._find(client, text)) is not None]
        if not all(self._rights.may_join(client, ref) for ref in found):
            await self._rights.read_grants()
        wanted = [ref for ref in found if self._rights.may_join(client, ref) and self._add(client, ref)]
        counts = await asyncio.gather(*(self._tables.join(client, ref) for ref in wanted))
        joined = []
        for ref, count in zip(wanted, counts, strict=True):
            if count is None:
                self._channels.forget(ref.address)
                self._memberships.remove(client, ref)
            else:
                joined.append(Entered(ref, count))
        return joined

    async def _find(self, client: ClientState, text: str) -> ChannelRef | None:
        """Return the channel at an address that the client names, or None. Logs of other kinds have no memberships."""
        address = parse_address(text)
        if address is None or not address.is_channel:
            return None
        try:
            return await self._channels.resolve(address, client.actor, create=False)
        except BusError as problem:
            if problem.code == ErrorCode.UNAVAILABLE:
                raise
            return None

    def _add(self, client: ClientState, ref: ChannelRef) -> bool:
        """Add a membership. Return False where the client has it already, or has as many as it may."""
        if ref.id in client.memberships or not self._members.has_room(client):
            return False
        self._memberships.add(client, ref)
        self._rights.recheck_if_changed(client, ref)
        return True

    async def starts(self, client: ClientState, received: Received, positions: Positions) -> dict[Stream, Start]:
        """Return where the client continues in those streams of which it gave a position. Raises the database's error."""
        starts = {}
        for stream, ref in received.items():
            position = positions.get(str(ref.address))
            if position is not None:
                since, epoch = position["seq"], position.get("epoch")
                starts[stream] = await self._replays.start_for(client, ref, stream, since, epoch)
        return starts


def positions_of(wanted: Registration, initial: Address) -> Positions:
    """Return the positions that a registration names, without those of marks.

    Raises ``BusError`` VALIDATION_ERROR for an unreadable time.
    """
    positions = dict(wanted.resume.positions) if wanted.resume else {}
    if wanted.since is not None and wanted.since != MARK:
        positions.setdefault(str(initial), {"seq": wanted.since, "epoch": wanted.epoch})
    for position in positions.values():
        check_since(position["seq"])
    return positions
