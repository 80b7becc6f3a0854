"""What is tidied from time to time: streams without members, presence rows, messages beyond the retention.

So are streamed messages whose owners are gone.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ... import log
from ...protocol.errors import TAKEN_OVER, BusError, ErrorCode
from ...protocol.state import State
from ...services import asks, decision_expiry, statuses, sweeping
from ...services import connections as connection_service
from ...services import nodes as node_service
from ...services import streams as streamed
from ..client import Clients
from ..clients.departures import Departures
from ..clients.presence_tables import PresenceTables
from ..delivery.streams import Streams
from ..runtime import Runtime
from .drain import send_away

#: Messages, and remembered ids, that are deleted in one transaction. Publishers go on in between.
PRUNE_STEP = 1000
#: Seconds between two comparisons of the presence rows.
INTERVAL = 15.0
#: Seconds between two looks for streamed messages whose owners are gone.
OVERDUE_LOOK = 2.0
#: Seconds between two looks for statuses whose time is over.
STATUS_LOOK = 1.0


class Housekeeping:
    """Keeps the database's rows about a node true, and deletes rows that are beyond their time."""

    def __init__(
        self, runtime: Runtime, clients: Clients, streams: Streams, departures: Departures, tables: PresenceTables
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._streams = streams
        self._departures = departures
        self._tables = tables
        self._next_comparison = self._next_prune = 0.0
        self._retention = log.Retention()
        # The time of this process's last turn to prune and to sweep for all, and how far its sweeps came.
        self._turn = 0
        self._walks = sweeping.Walk(), sweeping.Walk(), sweeping.Walk()
        # Connection ids for which the rows and this process differed at the last comparison.
        self._differing: set[str] = set()

    async def tidy(self) -> float:
        """Do what is due. Return the seconds until the next time."""
        settings, now = self._runtime.settings, self._runtime.loop.time()
        if now >= self._next_comparison:
            self._next_comparison = now + INTERVAL
            self._streams.collect()
            await self.compare_presence()
        if now >= self._next_prune:
            self._next_prune = now + (settings.prune_interval or 1e9)
            # One process does this for all.
            self._turn = await self._runtime.run_writer(sweeping.take_turn, self._turn, settings.prune_interval)
            if self._turn:
                await self._prune()
                await self._sweep()
        return min(INTERVAL, settings.prune_interval or INTERVAL)

    async def _sweep(self) -> None:
        """Remove the clients, channels, rooms and inboxes that nobody needs. Between two transactions, publishers can write."""
        idle = self._runtime.settings.channel_idle
        while await self._runtime.run_writer(sweeping.sweep_clients) == sweeping.CLIENTS:
            pass
        if not idle:
            return
        for sweep, walk, age in (
            (sweeping.sweep_channels, self._walks[0], idle),
            (sweeping.sweep_rooms, self._walks[1], idle),
            (sweeping.sweep_inboxes, self._walks[2], max(idle, 300.0)),
        ):
            await self._runtime.run_writer(sweep, age, walk)
            while not walk.done:
                await self._runtime.run_writer(sweep, age, walk)

    async def end_overdue(self) -> float:
        """End the streamed messages whose owners are gone for too long. Return the seconds until the next time."""
        ended = await self._runtime.run_writer(streamed.end_overdue)
        # More may wait after a full sweep. Between two sweeps, publishers can write.
        return OVERDUE_LOOK if len(ended) < streamed.SWEPT else 0.0

    async def end_statuses(self) -> float:
        """End the statuses whose time is over. Return the seconds until the next time."""
        if await self._runtime.run(statuses.any_overdue):
            while await self._runtime.run_writer(statuses.end_overdue) == statuses.SWEPT:
                pass
        return STATUS_LOOK

    async def compare_presence(self) -> None:
        """Make the rows of this node's connections match its connections. A difference counts at its second comparison."""
        written = await self._runtime.run(node_service.connections_of, self._runtime.node_id)
        connections = self._clients.by_connection
        here = {client.connection_id: client for client in connections.values() if client.state is State.REGISTERED}
        unwritten = {departure.release.connection_id for departure in self._departures.unwritten}
        differing = (written ^ here.keys()) - unwritten
        # A write may be on its way at the first comparison.
        lasting, self._differing = differing & self._differing, differing
        lost = [here[connection_id] for connection_id in lasting if connection_id in here]
        if lost:
            newest = await self._runtime.run(node_service.connected_as, [client.client_id for client in lost])
            for client in [client for client in lost if newest.get(client.client_id, (0, 0)) >= client.order]:
                # The notification of the newer connection was lost. Coming back, this one would close the newer one.
                lost.remove(client)
                client.drop(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
            await send_away(lost, self._runtime.settings.retry_spread, "Your presence was lost. Reconnect.")
        for connection_id in lasting - here.keys():
            if connection_id not in connections:
                await self._tables.submit(connection_service.Release("", connection_id, datetime.now(UTC)))

    async def _prune(self) -> None:
        """Delete messages beyond the retention, in short transactions with the publishers' in between."""
        settings = self._runtime.settings
        due = self._retention.due
        for channel_id, floor in await self._runtime.run(due, settings.retention_count, settings.retention_age):
            deleted = PRUNE_STEP
            while deleted == PRUNE_STEP:
                deleted = await self._runtime.run_writer(log.drop, channel_id, floor, PRUNE_STEP)
        self._retention.done()
        for forget in (log.forget_keys, asks.forget, log.forget_jobs, decision_expiry.forget, log.forget_erasures):
            while await self._runtime.run_writer(forget, settings.idempotency_window, PRUNE_STEP) == PRUNE_STEP:
                pass
