"""How many connections come in, from whom, and how long one may stay without a word (contract §8)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ...monitoring import metrics
from ...protocol.errors import UNIDENTIFIED, BusError, Closing, ErrorCode
from ...protocol.limits import TokenBucket, holder_of, is_of_this_machine
from ...services.claims import too_many
from ..client import ClientState

if TYPE_CHECKING:
    from ..node import Node


class Admission:
    """A node's count of its connections: in all, by network address, by principal; and the registration deadline."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._by_address: dict[str, int] = {}
        self._by_principal: dict[str, int] = {}
        self._principal_of: dict[str, str] = {}
        self._rates: dict[str, TokenBucket] = {}
        # Connections that have not registered, in the order in which their time ends.
        self._silent: dict[ClientState, float] = {}

    def enter(self, client: ClientState) -> None:
        """Take a connection in. Raises ``Closing`` 4429 where there are too many."""
        node, settings = self._node, self._node.settings
        if settings.connections and len(node.clients.by_connection) >= settings.connections:
            raise too_many("connections", "The server has as many connections as it takes.")
        address = client.peer_address
        holder = holder_of(address)
        limit = settings.connections_per_address
        counted = self._by_address.get(holder, 0)
        if limit and counted >= limit and not is_of_this_machine(address):
            raise too_many("connections_per_address", f"There are {limit} connections from your address already.")
        self._by_address[holder] = counted + 1
        node.clients.by_connection[client.connection_id] = client
        if settings.registration_deadline:
            self._silent[client] = node.loop.time() + settings.registration_deadline
        try:
            self.identified(client)
        except Closing:
            self.leave(client)
            raise

    def identified(self, client: ClientState) -> None:
        """``client.actor`` is set. Raises ``Closing`` 4429 where its principal has too many connections."""
        principal = client.actor.principal
        before = self._principal_of.get(client.connection_id, "")
        if principal == before:
            return
        limit = self._node.settings.connections_per_principal
        counted = self._by_principal.get(principal, 0)
        if principal:
            if limit and counted >= limit:
                raise too_many("connections_per_principal", f"You have {limit} connections already.")
            self._by_principal[principal] = counted + 1
            self._principal_of[client.connection_id] = principal
        self._gone(before)

    def most_of_all(self, client: ClientState) -> int:
        """What its principal may have in all processes together, where that is worth a look into the database; else 0.

        As long as each of n processes has less than an nth of the limit, all together have less than the limit.
        """
        principal, limit = client.actor.principal, self._node.settings.connections_per_principal
        processes = self._node.life.processes
        near = limit and processes > 1 and self._by_principal.get(principal, 0) * processes >= limit
        return limit if principal and near else 0

    def leave(self, client: ClientState) -> None:
        """A connection that was taken in is gone."""
        if self._node.clients.by_connection.pop(client.connection_id, None) is None:
            return
        self._silent.pop(client, None)
        _less(self._by_address, holder_of(client.peer_address))
        self._gone(self._principal_of.pop(client.connection_id, ""))

    def _gone(self, principal: str) -> None:
        """One connection less of its; with the last one its bucket goes too."""
        if principal and not _less(self._by_principal, principal):
            self._rates.pop(principal, None)

    def registered(self, client: ClientState) -> None:
        """It said who it is."""
        self._silent.pop(client, None)

    def rate_of(self, client: ClientState) -> TokenBucket | None:
        """The bucket that all connections of a principal share, where the setting limits it."""
        settings, principal = self._node.settings, client.actor.principal
        rate = settings.principal_rate_limit if settings.rate_limit else 0.0
        if not rate or not principal:
            return None
        bucket = self._rates.get(principal)
        if bucket is None:
            bucket = self._rates[principal] = TokenBucket(rate, max(2 * rate, 1.0), time.monotonic())
        return bucket

    async def look(self) -> float:
        """End connections that said nothing until their deadline; seconds until the next look."""
        now = self._node.loop.time()
        limit = self._node.settings.registration_deadline
        while self._silent:
            client = next(iter(self._silent))
            if self._silent[client] > now:
                break
            del self._silent[client]
            metrics.limits.labels("registration_deadline").inc()
            text = f"Nothing came within {limit:g} s of connecting; the first frame registers a client."
            client.drop(UNIDENTIFIED, BusError(ErrorCode.UNAUTHENTICATED, text))
        return 0.5


def _less(counts: dict[str, int], key: str) -> int:
    """Count one less of ``key``; how many are left."""
    left = counts.get(key, 1) - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key, None)
    return left
