"""The work of one process: what the commands of its clients, its regular work and its notifications call."""

from __future__ import annotations

from typing import Any

import msgspec

from ...auth.permissions import JOIN, PUBLISH
from ...directory.channels import ChannelRef
from ...notify.broker import Broker
from ...notify.messages import WorkChanged, WorkReady
from ...protocol.names import Address
from ...realtime.hub import Hub
from ...services import work as service
from ...services.work import Claim, Operation, Outcome, Renew, Worker
from ...shapes import Claims
from ..client import ClientState
from ..clients.presence import Notices
from ..delivery.channels import Channels
from ..permissions import Permissions
from ..runtime import Runtime
from .notices import WorkNotices
from .operations import Operations
from .waits import Waits

#: Seconds between two looks for ready jobs that no notification told of, and between two sweeps.
LOOK = 1.0
#: Claims that a process remembers for each connection.
REMEMBERED = 1000


class Work:
    """Carries out the operations of clients on jobs, and lets their claims wait."""

    def __init__(
        self,
        runtime: Runtime,
        hub: Hub,
        broker: Broker,
        channels: Channels,
        permissions: Permissions,
        notices: Notices,
    ) -> None:
        self._runtime = runtime
        self._broker = broker
        self._channels = channels
        self._permissions = permissions
        self._operations = Operations(runtime, self._happened)
        self._waits = Waits(runtime.loop)
        self._notices = WorkNotices(runtime, hub, broker, notices)
        # The newest claims that each connection heard of. Those that it ended itself are left out.
        self._heard: dict[ClientState, dict[str, None]] = {}
        # The addresses of the channels for which claims wait, to look up anew a channel that turns out to be gone.
        self._addresses: dict[int, Address] = {}
        #: Jobs that clients of this process claimed, and claims that they ended.
        self.claimed = self.ended = 0

    @property
    def waiting(self) -> int:
        """The number of claims that wait in this process."""
        return self._waits.waiting

    # --- the operations of clients --------------------------------------------------------------------------------------

    async def claim(
        self,
        client: ClientState,
        address: Address,
        most: int,
        wait: float,
        have: tuple[str, ...] | None = None,
        worker: Worker | None = None,
    ) -> Claims:
        """Claim up to ``most`` jobs for ``client``, and wait up to ``wait`` seconds for the first one.

        ``have`` are the claims that the client knows: others that it holds there are answered once more. ``worker`` is
        who gets the jobs, where that is not the client itself. Jobs that come after a cancellation are released.

        Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, VALIDATION_ERROR for a channel without work, LIMIT_REACHED, BUSY,
        UNAVAILABLE.
        """
        who = worker or Worker(client.client_id, client.actor.principal)
        ref = await self._channel(client, address)

        async def ask() -> Claims:
            nonlocal have
            # The channel may have changed, and the right may have been withdrawn, while the claim waited.
            now = await self._channel(client, address)
            # What the client knows is true for one look. Later it may have got jobs by another claim.
            known, have = have, None
            if known is not None:
                known = (*known, *self._heard.get(client, ()))
            operation = Claim(now, most, who, known, "" if worker else client.connection_id)
            claimed: Claims = await self._operations.carry_out(operation)
            if known is None or not claimed.claims:
                return claimed
            fresh = self._without_heard(client, claimed)
            return fresh if fresh.claims else await ask()

        self._addresses[ref.id] = address
        try:
            claimed = await self._waits.claim(client, ref.id, ask, wait)
        finally:
            if not self._waits.looked_for(ref.id):
                self._addresses.pop(ref.id, None)
        self.claimed += len(claimed.claims)
        if worker is None:
            self._hear(client, claimed)
        return claimed

    def _without_heard(self, client: ClientState, claimed: Claims) -> Claims:
        """Return the answer without the claims that another answer on this connection has brought meanwhile."""
        heard = self._heard.get(client, ())
        return msgspec.structs.replace(claimed, claims=[one for one in claimed.claims if one.claim not in heard])

    def _hear(self, client: ClientState, claimed: Claims) -> None:
        if not claimed.claims or client.ending:
            return
        heard = self._heard.setdefault(client, {})
        heard.update((one.claim, None) for one in claimed.claims)
        while len(heard) > REMEMBERED:
            del heard[next(iter(heard))]

    async def carry_out(self, operation: Operation, client: ClientState | None = None) -> Any:
        """Renew or end a claim, and return the answer. ``client`` is the connection that asks for it.

        Raises ``BusError`` CLAIM_NOT_FOUND, CLAIM_LOST, BUSY, UNAVAILABLE.
        """
        answer = await self._operations.carry_out(operation)
        if not isinstance(operation, Renew | Claim):
            self.ended += 1
            if client is not None and (heard := self._heard.get(client)):
                heard.pop(operation.token, None)
        return answer

    async def _channel(self, client: ClientState, address: Address) -> ChannelRef:
        """Return the work channel at ``address``, where ``client`` may work."""
        ref = await self._channels.resolve(address, client.actor, create=False)
        self._permissions.check(client, JOIN, ref)
        self._permissions.check(client, PUBLISH, ref)
        if ref.work is None:
            raise service.no_work(address)
        return ref

    # --- what wakes and tells -------------------------------------------------------------------------------------------

    def _happened(self, outcome: Outcome) -> None:
        """Tell of what a transaction of this process did."""
        if outcome.changes:
            self._notices.happened(outcome.changes)
        if outcome.ready:
            self.announce(list(outcome.ready.items()))

    def announce(self, channels: list[tuple[int, int]]) -> None:
        """Wake claims here and in the other processes: jobs of these channels became ready in this process."""
        self._waits.ready(channels)
        if not self._broker.alone:
            self._broker.send(WorkReady(channels))

    def ready(self, notification: WorkReady) -> None:
        """Wake claims, because jobs became ready in another process or thread."""
        self._waits.ready(notification.channels)

    def changed(self, notification: WorkChanged) -> None:
        """Tell members of what another process or thread did."""
        self._notices.receive(notification.changes)

    # --- regular work ---------------------------------------------------------------------------------------------------

    async def look(self) -> float:
        """Wake the claims whose jobs became ready without a notification: the delayed ones, and after a loss of one.

        Returns the seconds until the next look.
        """
        wanted = self._waits.channel_ids
        if wanted:
            found = await self._runtime.run_watcher(service.ready_now, wanted)
            self._waits.ready([(channel_id, jobs) for channel_id, jobs in found.items() if jobs])
            for channel_id in set(wanted) - found.keys():
                self._gone(channel_id)
        return LOOK

    def _gone(self, channel_id: int) -> None:
        """Let the claims of a channel find out that it is no work channel any more."""
        address = self._addresses.get(channel_id)
        if address is not None:
            self._channels.forget(address)
        self.wake_all(channel_id)

    def wake_all(self, channel_id: int) -> None:
        """Let all claims of a channel ask again."""
        self._waits.ready([(channel_id, self._waits.waiting)])

    async def sweep(self) -> float:
        """Take jobs from workers that are gone, or that have them for too long.

        Returns the seconds until the next sweep.
        """
        outcome = await self._runtime.run_writer(service.sweep)
        self._happened(outcome)
        # Between two sweeps, publishers can write.
        return 0.0 if outcome.more else LOOK

    # --- the end --------------------------------------------------------------------------------------------------------

    def left(self, client: ClientState) -> None:
        """End the waits of a connection that has closed."""
        self._waits.left(client)
        self._heard.pop(client, None)

    def drain(self) -> None:
        """Answer the claims that wait, because the process stops."""
        self._waits.end()

    def stop(self) -> None:
        """Send the notices that have gathered."""
        self._notices.stop()
