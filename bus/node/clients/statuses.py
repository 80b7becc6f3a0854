"""Statuses of this process's clients: each is written with the next group, and its members are notified."""

from __future__ import annotations

import msgspec

from ... import shapes
from ...notify.messages import ClientUpdated
from ...services import statuses as status_service
from ...services.statuses import NewStatus, Said, Written
from ..client import ClientState
from ..runtime import Runtime
from ..writes import Writes
from .presence import Notices


class Statuses(Writes[NewStatus]):
    """Gathers the statuses of a loop turn into one transaction."""

    def __init__(self, runtime: Runtime, notices: Notices) -> None:
        super().__init__(runtime, status_service.write)
        self._notices = notices

    async def set(self, client: ClientState, said: Said) -> shapes.Status | None:
        """Set the status of ``client``. Return the one that it has now. Raises ``BusError`` TAKEN_OVER, UNAVAILABLE."""
        refs = [ref for ref in client.memberships.values() if ref.presence]
        new = NewStatus(client.client_id, client.connection_id, said, [ref.id for ref in refs])
        written: Written = await self.write(new)
        client.status = None if written.status is None else msgspec.to_builtins(written.status)
        for ref in refs:
            if ref.id in client.memberships:
                self._notices.updated(
                    ClientUpdated(ref.id, *ref.address, written.participants[ref.id], client.card(), client.status)
                )
        return written.status
