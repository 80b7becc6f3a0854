"""The owners of streamed messages that are connected here: each is told of stops and steers at once, and again after a reconnect.

A notification may be lost. Therefore a look at the database finds what an owner was not told yet.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.db import Error as DatabaseError

from ...auth.permissions import PUBLISH
from ...directory.channels import ChannelRef
from ...log.effects import OPEN, StreamState
from ...notify.messages import StreamSignal
from ...protocol import growing
from ...protocol.names import Address
from ...realtime.hub import Hub
from ...services import stream_owners
from ...services import streams as streamed
from ..client import Clients, ClientState
from ..permissions import Permissions
from ..runtime import Runtime
from .channels import Channels

#: What ``ClientState.told`` has for a stop; a steer has its seq.
STOP = 0
#: Streams that a connection was told of, and notices about one of them, that are remembered. Then all are told again. More
#: notices than the steers that may wait for one owner.
TOLD, NOTICES = 1000, 2000


class Owners:
    """Tells the owners of streamed messages that are clients of this process.

    An owner that may not publish in the channel any more is told nothing.
    """

    def __init__(
        self, runtime: Runtime, clients: Clients, hub: Hub, channels: Channels, permissions: Permissions
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._hub = hub
        self._channels = channels
        self._permissions = permissions

    def tell(self, signal: StreamSignal) -> None:
        """Tell the owner of a stop or a steer, if it is connected here and does not know of it."""
        client = self._owner(signal.client_id, signal.principal)
        if client is None:
            return
        ref = self._known(client, signal)
        if signal.frame and ref is not None:
            if self._permissions.may(client, PUBLISH, ref):
                self._send(client, signal.of, signal.steer_seq, signal.frame)
        else:
            # The notice did not fit into the notification, or only the database can say whether the owner may have it.
            self._runtime.spawn(self._look_up(signal.of))

    def remind(self, state: StreamState) -> None:
        """Tell an owner that is back once more of everything that it has not taken or followed."""
        client = self._owner(state.client_id, state.principal)
        if client is not None and (state.stopping or state.steers):
            if client.told:
                client.told.pop(state.uid, None)
            self._runtime.spawn(self._look_up(state.uid))

    async def compare(self, states: Sequence[StreamState]) -> None:
        """Tell the owners here what they were not told of these streams. Raises the database's error."""
        owed: dict[int, ClientState] = {}
        for state in states:
            if state.state == OPEN and (state.stopping or state.steers):
                client = self._owner(state.client_id, state.principal)
                if client is not None:
                    owed[state.id] = client
        if not owed:
            return
        uids = {state.id: state.uid for state in states}
        asked = {
            pk: stream_owners.Owner(client.actor, frozenset((client.told or {}).get(uids[pk], ())))
            for pk, client in owed.items()
        }
        for notice in await self._runtime.run_watcher(stream_owners.owed, asked):
            client = owed[notice.state.id]
            state, place = notice.state, notice.address
            if state.stopping:
                self._send(client, state.uid, STOP, growing.stop_requested(place, state.uid))
            for seq, frame in notice.steers:
                self._send(client, state.uid, seq, growing.steer_notice(place, state.uid, frame))

    async def _look_up(self, of: str) -> None:
        try:
            state = await self._runtime.run_watcher(streamed.state_of, of)
            await self.compare([state] if state is not None else [])
        except DatabaseError:
            pass  # The next look finds it.

    def _known(self, client: ClientState, signal: StreamSignal) -> ChannelRef | None:
        """Return the channel of a signal if this process remembers it."""
        stream = self._hub.streams.get(signal.channel_id)
        address = client.streams.get(signal.of) if stream is None else Address(stream.room, stream.channel)
        ref = self._channels.known(address) if address is not None else None
        return ref if ref is not None else client.memberships.get(signal.channel_id)

    def _owner(self, client_id: str, principal: str) -> ClientState | None:
        client = self._clients.by_id.get(client_id)
        return client if client is not None and client.actor.principal == principal else None

    def _send(self, client: ClientState, of: str, what: int, notice: bytes) -> None:
        if client.told is None or len(client.told) >= TOLD:
            client.told = {}
        told = client.told.setdefault(of, set())
        if len(told) >= NOTICES:
            told.clear()
        if what not in told:
            told.add(what)
            self._hub.send(client, notice)
