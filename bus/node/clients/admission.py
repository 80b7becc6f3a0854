"""Which connections are let in: bounds by network address and principal, and the registration deadline."""

from __future__ import annotations

import asyncio
import time

from ...monitoring import metrics
from ...protocol.errors import UNIDENTIFIED, BusError, Closing, ErrorCode
from ...protocol.limits import TokenBucket, holder_of, is_of_this_machine
from ...services.ownership import too_many
from ..client import Clients, ClientState
from ..runtime import Runtime

#: Seconds between looks for connections that missed the registration deadline.
LOOK = 0.5
#: Requests for event streams that Django may work on at once. Each may take a thread and a database connection meanwhile.
OPENINGS = 8


class Admission:
    """Counts the connections of this process: all of them, by network address and by principal."""

    def __init__(self, runtime: Runtime, clients: Clients) -> None:
        self._runtime = runtime
        self._clients = clients
        #: Processes of the bus, among which a limit is shared. The heartbeat keeps it up to date.
        self.processes = 1
        #: Held by each request for an event stream, until its answer begins.
        self.opening = asyncio.Semaphore(OPENINGS)
        self._by_address: dict[str, int] = {}
        self._by_principal: dict[str, int] = {}
        self._principal_of: dict[str, str] = {}
        self._rates: dict[str, TokenBucket] = {}
        # Connections that have not registered, each with its deadline, the earliest first.
        self._unregistered: dict[ClientState, float] = {}

    def enter(self, client: ClientState) -> None:
        """Admit a connection. Raises ``Closing`` 4429 where there are too many."""
        settings, connections = self._runtime.settings, self._clients.by_connection
        if settings.connections and len(connections) >= settings.connections:
            raise too_many("connections", "The server has reached its limit of connections.")
        address = client.peer_address
        holder = holder_of(address)
        limit = settings.connections_per_address
        counted = self._by_address.get(holder, 0)
        if limit and counted >= limit and not is_of_this_machine(address):
            raise too_many("connections_per_address", f"Your address has reached its limit of {limit} connections.")
        self._by_address[holder] = counted + 1
        connections[client.connection_id] = client
        if settings.registration_deadline:
            self._unregistered[client] = self._runtime.loop.time() + settings.registration_deadline
        try:
            self.identified(client)
        except Closing:
            self.leave(client)
            raise

    def identified(self, client: ClientState) -> None:
        """Count a connection for the principal of its new ``actor``. Raises ``Closing`` 4429 where that has too many."""
        principal = client.actor.principal
        before = self._principal_of.get(client.connection_id, "")
        if principal == before:
            return
        limit = self._runtime.settings.connections_per_principal
        counted = self._by_principal.get(principal, 0)
        if principal:
            if limit and counted >= limit:
                raise too_many("connections_per_principal", f"You have reached your limit of {limit} connections.")
            self._by_principal[principal] = counted + 1
            self._principal_of[client.connection_id] = principal
        self._count_out(before)

    def limit_everywhere(self, client: ClientState) -> int:
        """Return the most connections of the principal in all processes, where the database has to count them, else 0.

        As long as each of n processes has less than an nth of the limit, all together have less than the limit.
        """
        principal, limit = client.actor.principal, self._runtime.settings.connections_per_principal
        near = limit and self.processes > 1 and self._by_principal.get(principal, 0) * self.processes >= limit
        return limit if principal and near else 0

    def leave(self, client: ClientState) -> None:
        """Count out a closed connection. Does nothing for one that was not admitted."""
        if self._clients.by_connection.pop(client.connection_id, None) is None:
            return
        self._unregistered.pop(client, None)
        _less(self._by_address, holder_of(client.peer_address))
        self._count_out(self._principal_of.pop(client.connection_id, ""))

    def _count_out(self, principal: str) -> None:
        """Count one connection less for ``principal``. With its last connection its shared rate limit goes, too."""
        if principal and not _less(self._by_principal, principal):
            self._rates.pop(principal, None)

    def registered(self, client: ClientState) -> None:
        """Take the registration deadline off a connection."""
        self._unregistered.pop(client, None)

    def rate_of(self, client: ClientState) -> TokenBucket | None:
        """Return the rate limit that all connections of the principal share, or None where the settings have none."""
        settings, principal = self._runtime.settings, client.actor.principal
        rate = settings.principal_rate_limit if settings.rate_limit else 0.0
        if not rate or not principal:
            return None
        bucket = self._rates.get(principal)
        if bucket is None:
            bucket = self._rates[principal] = TokenBucket(rate, max(2 * rate, 1.0), time.monotonic())
        return bucket

    async def close_unregistered(self) -> float:
        """Close the connections that missed the registration deadline. Return the seconds until the next look."""
        now = self._runtime.loop.time()
        limit = self._runtime.settings.registration_deadline
        while self._unregistered:
            client = next(iter(self._unregistered))
            if self._unregistered[client] > now:
                break
            del self._unregistered[client]
            metrics.limits.labels("registration_deadline").inc()
            text = f"No frame arrived within {limit:g} s. The first frame must register the client."
            client.drop(UNIDENTIFIED, BusError(ErrorCode.UNAUTHENTICATED, text))
        return LOOK


def _less(counts: dict[str, int], key: str) -> int:
    """Count one less of ``key``. Return how many are left."""
    left = counts.get(key, 1) - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)
    return left
