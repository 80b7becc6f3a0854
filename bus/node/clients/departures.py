"""What happens when a connection is closed: its memberships end, and the other members are notified."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ... import signals
from ...directory.channels import ChannelRef
from ...protocol.errors import BusError
from ...protocol.state import State
from ...services.connections import Release
from ..client import Clients, ClientState
from ..delivery.channels import Channels
from ..runtime import Traffic
from .admission import Admission
from .memberships import Memberships
from .presence import Notices
from .presence_tables import PresenceTables


class Departure(NamedTuple):
    """A closed connection that the database still has."""

    release: Release
    #: What others may know of the client (``ClientState.card``).
    card: dict[str, Any]
    refs: Sequence[ChannelRef]


class Departures:
    """Takes closed connections out of this process and out of the database."""

    def __init__(
        self,
        traffic: Traffic,
        clients: Clients,
        channels: Channels,
        admission: Admission,
        memberships: Memberships,
        tables: PresenceTables,
        notices: Notices,
    ) -> None:
        self._traffic = traffic
        self._clients = clients
        self._channels = channels
        self._admission = admission
        self._memberships = memberships
        self._tables = tables
        self._notices = notices
        #: Departures that the database did not take. Each heartbeat writes them again.
        self.unwritten: list[Departure] = []
        #: Connection ids whose departure other processes announced when they gave this process up.
        self.announced: set[str] = set()

    async def closed(self, client: ClientState, code: int) -> None:
        """Remove a closed connection. Of a lasting identity only the inbox stays. ``code`` is the WebSocket close code."""
        self._admission.leave(client)
        if not client.claimed:
            return
        refs = self._memberships.remove_all(client)
        if self._clients.by_id.get(client.client_id) is client:
            del self._clients.by_id[client.client_id]
        if client.reached is State.REGISTERED:
            private = await self._channels.is_private(client.initial)
            signals.client_disconnected.send_robust(
                ClientState,
                client=client.card(),
                code=code,
                kind=client.kind,
                room=client.initial.room,
                private=private,
            )
        if self._traffic.draining:
            return  # The node removes all of its clients at once.
        announced = client.connection_id in self.announced
        self.announced.discard(client.connection_id)
        channel_ids = [] if announced else [ref.id for ref in refs]
        release = Release(client.client_id, client.connection_id, client.last_active(), channel_ids)
        departure = Departure(release, client.card(), refs)
        if not await self._write(departure):
            self.unwritten.append(departure)

    async def write_again(self) -> None:
        """Write the departures again that the database did not take before."""
        unwritten, self.unwritten = self.unwritten, []
        for departure in unwritten:
            if not await self._write(departure):
                self.unwritten.append(departure)

    async def _write(self, departure: Departure) -> bool:
        """Write a departure and notify the members that are left. Return False when the database does not take it now."""
        try:
            left = await self._tables.release(departure.release)
        except (BusError, RuntimeError):
            return False
        for ref in departure.refs:
            # A newer connection of the client, here or in another process, may be a member in its place.
            if ref.id in left:
                self._notices.left(departure.card, ref, left[ref.id])
        return True
