"""Marks of this process's clients: each moves in the next group of writes."""

from __future__ import annotations

from ..auth.permissions import HISTORY, SYSTEM, can, table
from ..directory.channels import ChannelRef
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.routing import channel_not_found
from ..protocol.state import State
from ..services import marks as mark_service
from ..services.clients import as_owner
from ..services.marking import no_log
from ..services.marks import Marked, Move
from .client import ClientState
from .delivery.channels import Channels
from .permissions import Permissions
from .runtime import Runtime
from .writes import Writes


class Marks(Writes[Move]):
    """Gathers the moves of a loop turn. All moves of one mark become one write."""

    def __init__(self, runtime: Runtime, channels: Channels, permissions: Permissions) -> None:
        super().__init__(runtime, mark_service.write)
        self._channels = channels
        self._permissions = permissions

    async def mark(
        self, client: ClientState, address: Address, seq: int, *, back: bool, epoch: str | None, begin: bool = False
    ) -> Marked:
        """Note that ``client`` has dealt with the log at ``address`` up to ``seq``. Return the mark once it is committed.

        With ``begin``, a mark that exists stays, and a new one lies before the oldest open question to an inbox.

        Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, VALIDATION_ERROR, LIMIT_REACHED, UNAVAILABLE.
        """
        ref, floor = await self._readable(client, address)
        if ref.ephemeral:
            raise no_log(address)
        return await self._move(client, ref, max(seq, floor), back=back, epoch=epoch, begin=begin, floor=floor)

    async def begin(self, client: ClientState, ref: ChannelRef) -> Marked | None:
        """Return the mark of ``client`` in a log. Without one it begins now, as ``marking.begin`` says.

        Returns None for a log that keeps nothing, or that the client may not read. Raises ``BusError`` FORBIDDEN for an
        anonymous reader without a client id of its own, LIMIT_REACHED, UNAVAILABLE, and CHANNEL_NOT_FOUND for a deleted log.
        """
        if ref.ephemeral or not can(client.actor, HISTORY, ref.address, private=ref.private, rules=table().loaded):
            return None
        floor = client.inbox_floor if ref.address.is_inbox else 0
        return await self._move(client, ref, None, begin=True, floor=floor)

    async def _move(
        self,
        client: ClientState,
        ref: ChannelRef,
        seq: int | None,
        *,
        back: bool = False,
        epoch: str | None = None,
        begin: bool = False,
        floor: int = 0,
    ) -> Marked:
        principal = client.actor.principal
        if not principal and client.state is State.SERVED:
            raise BusError(ErrorCode.FORBIDDEN, "Authenticate to have marks.")
        holder = mark_service.holder_of(principal, client.client_id)
        connection_id = "" if principal else client.connection_id
        marked: Marked = await self.write(Move(holder, ref.id, seq, back, epoch, connection_id, begin, floor))
        client.marked = not principal
        return marked

    async def _readable(self, client: ClientState, address: Address) -> tuple[ChannelRef, int]:
        """Return a log whose history the client may read, and the seq from which on it may."""
        if not address.is_inbox:
            ref = await self._channels.resolve(address, client.actor, create=False, action=HISTORY)
            self._permissions.check(client, HISTORY, ref)
            return ref, 0
        actor, floor = client.actor, client.inbox_floor
        if address.channel != client.client_id:
            actor, floor = await self._runtime.run(as_owner, actor, address.channel)
        if not can(actor, HISTORY, address, private=True, rules=table().loaded):
            raise channel_not_found(address)
        return await self._channels.resolve(address, SYSTEM), floor
