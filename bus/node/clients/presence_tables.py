"""Writes clients and their memberships into the database, in the same thread as the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.db import Error as DatabaseError

from ...directory.channels import ChannelRef
from ...protocol.errors import BusError, ErrorCode
from ...services import connections as connection_service
from ...services.connections import Join, Leave, Operation, Release
from ...services.held import ChannelHeld
from ...services.ownership import Claim, Claimed
from ..batch import Batcher
from ..client import ClientState
from ..runtime import Runtime
from ..threads import database_call, unavailable

#: Seconds after which a channel whose row another transaction holds is asked for again.
HELD_AGAIN = 0.05
#: Seconds that a write may take beyond the time of the log's own writes.
GRACE = 3.0


class PresenceTables(Batcher[Operation]):
    """Gathers the writes of a loop turn into one transaction."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime.writer, _apply)
        self._runtime = runtime

    async def claim(self, claim: Claim) -> Claimed | None:
        """Claim a client id. Return None when the initial channel is gone. Raises as :meth:`_write`, and what a claim raises."""
        claimed: Claimed | None = await self._write(claim)
        return claimed

    async def join(self, client: ClientState, ref: ChannelRef) -> int | None:
        """Write a membership. Return the channel's number of members, or None when the channel is gone."""
        participants: int | None = await self._write(Join(client.client_id, client.connection_id, ref.id))
        return participants

    async def leave(self, client: ClientState, ref: ChannelRef) -> int:
        """Delete a membership. Return the channel's number of members without the client."""
        participants: int = await self._write(Leave(client.client_id, client.connection_id, ref.id))
        return participants

    def leave_later(self, client: ClientState, ref: ChannelRef) -> None:
        """Delete a membership without waiting, after a join whose outcome is unknown and that the client saw fail."""
        done = self.submit(Leave(client.client_id, client.connection_id, ref.id))
        done.add_done_callback(lambda future: None if future.cancelled() else future.exception())

    async def release(self, release: Release) -> dict[int, int]:
        """Delete a connection. Return the members left in each of its channels that the client is not in any more."""
        left: dict[int, int] = await self._write(release)
        return left

    async def _write(self, operation: Operation) -> Any:
        """Carry out ``operation`` and return its answer. Raises ``BusError`` UNAVAILABLE when none comes in time."""
        problem = unavailable()
        try:
            async with asyncio.timeout(self._runtime.settings.store_timeout + GRACE):
                while True:
                    try:
                        return await self.submit(operation)
                    except ChannelHeld:
                        problem = BusError(
                            ErrorCode.UNAVAILABLE, "Another transaction locks this channel. Try again.", retry_after=1.0
                        )
                        await asyncio.sleep(HELD_AGAIN)
        except (DatabaseError, TimeoutError):
            raise problem from None


def _apply(operations: Sequence[Operation]) -> list[Any]:
    return database_call(connection_service.apply, operations)
