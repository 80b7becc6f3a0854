"""The memberships of this process's clients, as its streams and the clients' states know them."""

from __future__ import annotations

from collections.abc import Sequence

from ...directory.channels import ChannelRef
from ...protocol import frames
from ...protocol.errors import SLOW, BusError, ErrorCode
from ...protocol.names import EVERYONE, Address
from ...realtime.hub import Hub
from ..client import Clients, ClientState
from ..delivery.channels import Channels
from ..delivery.streams import rebuilt
from .observers import Observers
from .presence import Notices
from .presence_tables import PresenceTables


class Memberships:
    """Adds and ends memberships. A member of any channel of a room also receives the room's own log."""

    def __init__(
        self,
        clients: Clients,
        hub: Hub,
        channels: Channels,
        tables: PresenceTables,
        notices: Notices,
        observers: Observers,
    ) -> None:
        self._clients = clients
        self._hub = hub
        self._channels = channels
        self._tables = tables
        self._notices = notices
        self._observers = observers

    def add(self, client: ClientState, ref: ChannelRef) -> None:
        """Note a membership in the client's state. Delivery begins when its stream has the client as a member."""
        client.memberships[ref.id] = ref
        client.rooms[ref.address.room] = client.rooms.get(ref.address.room, 0) + 1

    def remove(self, client: ClientState, ref: ChannelRef) -> None:
        """End a membership in this process: nothing more is delivered, and no frame says so."""
        if client.memberships.pop(ref.id, None) is None:
            return
        client.want_parts(ref.id, wanted=True)
        self._stop(client, ref.id)
        room = ref.address.room
        client.rooms[room] = client.rooms.get(room, 1) - 1
        if client.rooms[room] <= 0:
            del client.rooms[room]
            for log in self._hub.of_room(room):
                self._stop(client, log.id)

    def _stop(self, client: ClientState, channel_id: int) -> None:
        """Deliver no more of a log, unless the client follows its room."""
        stream = self._hub.stream(channel_id)
        if channel_id in client.followed:
            if stream is not None and client in stream.members:
                self._hub.add(stream, client)  # With the parts of streamed messages.
            return
        client.replays.pop(channel_id, None)
        if stream is not None:
            self._hub.remove(stream, client)

    def remove_all(self, client: ClientState) -> list[ChannelRef]:
        """End all memberships of a closed connection, also in its inbox and everybody's log. Return its channels."""
        self._observers.forget(client)
        refs = list(client.memberships.values())
        for ref in refs:
            self.remove(client, ref)
        client.replays.clear()
        own = self._hub.stream(client.inbox_id)
        for stream in [*self._hub.of_room(EVERYONE.room), *([own] if own is not None else [])]:
            self._hub.remove(stream, client)
        return refs

    def end(self, client: ClientState, ref: ChannelRef, reason: str) -> None:
        """End a membership and send the client ``unsubscribed`` with ``reason``."""
        self.remove(client, ref)
        place = {"room": ref.address.room, "channel": ref.address.channel}
        self._hub.send(client, frames.system("unsubscribed", ref.address, **place, reason=reason))

    async def withdraw(self, client: ClientState, refs: Sequence[ChannelRef]) -> None:
        """End memberships that are no longer allowed. Nothing more is delivered from the call on."""
        for ref in refs:
            self.end(client, ref, ErrorCode.REVOKED)
        for ref in refs:
            if self._clients.by_id.get(client.client_id) is not client:
                continue  # A reader without a client id, or whose client is elsewhere by now.
            try:
                participants = await self._tables.leave(client, ref)
            except BusError:
                continue  # The row goes with the connection at the latest.
            self._notices.left(client.card(), ref, participants)

    def drop_log(self, channel_id: int, problem: BusError | None) -> None:
        """End the memberships in a deleted log. With ``problem`` close its members instead, so that they find the new log.

        Members of an inbox or of a whole room's log are always closed, because they cannot join such a log again.
        """
        stream = self._hub.streams.get(channel_id)
        if stream is None:
            return
        self._channels.forget(Address(stream.room, stream.channel))
        if problem is None:
            self._observers.deleted(channel_id, stream.room)
        for member in stream.audience():
            if isinstance(member, ClientState):
                ref = member.memberships.get(channel_id)
                if problem is None and ref is not None:
                    self.end(member, ref, "DELETED")
                else:
                    member.drop(SLOW, problem or rebuilt())
        self._hub.discard(channel_id)
