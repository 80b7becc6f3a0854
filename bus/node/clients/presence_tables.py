"""Writes clients and their memberships into the database, in the same thread as the log."""

from __future__ import annotations

from ...directory.channels import ChannelRef
from ...services import connections as connection_service
from ...services.claims import Claim, Claimed
from ...services.connections import Join, Leave, Operation, Release
from ..client import ClientState
from ..runtime import Runtime
from ..writes import Writes


class PresenceTables(Writes[Operation]):
    """Gathers the writes of a loop turn into one transaction."""

    def __init__(self, runtime: Runtime) -> None:
        # The loop reads the sockets first: a frame that waited for long may be of a client that has closed its own since.
        super().__init__(runtime, connection_service.apply, turns=2)

    async def claim(self, claim: Claim) -> Claimed | None:
        """Claim a client id. Return None when the initial channel is gone. Raises as :meth:`write`, and what a claim raises."""
        claimed: Claimed | None = await self.write(claim)
        return claimed

    async def join(self, client: ClientState, ref: ChannelRef) -> int | None:
        """Write a membership. Return the channel's number of members, or None when the channel is gone."""
        participants: int | None = await self.write(Join(client.client_id, client.connection_id, ref.id))
        return participants

    async def leave(self, client: ClientState, ref: ChannelRef) -> int:
        """Delete a membership. Return the channel's number of members without the client."""
        participants: int = await self.write(Leave(client.client_id, client.connection_id, ref.id))
        return participants

    def leave_later(self, client: ClientState, ref: ChannelRef) -> None:
        """Delete a membership without waiting, after a join whose outcome is unknown and that the client saw fail."""
        done = self.submit(Leave(client.client_id, client.connection_id, ref.id))
        done.add_done_callback(lambda future: None if future.cancelled() else future.exception())

    async def release(self, release: Release) -> dict[int, int]:
        """Delete a connection. Return the members left in each of its channels that the client is not in any more."""
        left: dict[int, int] = await self.write(release)
        return left
