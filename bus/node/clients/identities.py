"""Claiming a client id: the database decides which connection has it, and this process follows."""

from __future__ import annotations

import secrets

from ...models import new_epoch
from ...protocol.errors import TAKEN_OVER, BusError, Closing, ErrorCode
from ...protocol.names import is_made_up
from ...protocol.registration import Registration
from ...protocol.state import State
from ...services.claims import Claim, Claimed
from ...services.proofs import first_epoch, resume_token
from ..client import Clients, ClientState
from ..interest import Interest
from ..runtime import Runtime
from .admission import Admission
from .presence_tables import PresenceTables


class Identities:
    """Gives client ids to the connections of this process."""

    def __init__(
        self, runtime: Runtime, clients: Clients, admission: Admission, tables: PresenceTables, interest: Interest
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._admission = admission
        self._tables = tables
        self._interest = interest

    async def claim(
        self, client: ClientState, wanted: Registration, client_id: str, channel_id: int, everyones_epoch: str
    ) -> Claimed | None:
        """Claim ``client_id`` in the database, with a membership in its initial channel ``channel_id``.

        Returns None when that channel is gone. ``everyones_epoch`` is the epoch of everybody's log. Raises ``BusError`` and
        ``Closing`` as the claim does.
        """
        waiting = True
        if is_made_up(client_id):
            token, epoch = resume_token(client_id, client.actor.principal), first_epoch(client_id, everyones_epoch)
        else:
            token, epoch = secrets.token_urlsafe(18), new_epoch()
        connections = self._clients.by_connection
        claim = Claim(
            node_id=self._runtime.node_id,
            connection_id=client.connection_id,
            client_id=client_id,
            generated=wanted.client_id is None,
            client_type=wanted.client_type,
            screen_name=wanted.screen_name or "",
            avatar=wanted.avatar or "",
            personality=wanted.personality,
            card=wanted.card,
            role=client.actor.role,
            principal=client.actor.principal,
            resume_token=wanted.resume.token if wanted.resume else None,
            new_token=token,
            new_epoch=epoch,
            channel_id=channel_id,
            last_activity=client.last_active(),
            most=self._admission.limit_everywhere(client),
            wanted=lambda: waiting and not client.writer.disconnected() and client.connection_id in connections,
        )
        client.step(State.CLAIMING)
        # Before the others can know of the claim: one of them may take the id over at once.
        self._interest.in_client(client_id)
        try:
            return await self._tables.claim(claim)
        finally:
            waiting = False

    def take(self, client: ClientState, wanted: Registration, client_id: str, claimed: Claimed) -> None:
        """Give ``client`` the identity that it claimed, and close an older connection of the same client.

        Raises ``Closing`` 4410 where a newer connection has the id by now: answers of the database may cross.
        """
        older = self._clients.by_id.get(client_id)
        if older is not None and older is not client and older.order > claimed.order:
            raise Closing(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
        client.order = claimed.order
        client.client_id, client.client_type = client_id, wanted.client_type
        client.screen_name, client.avatar = wanted.screen_name, wanted.avatar
        client.resume_token = claimed.token
        client.inbox_floor = claimed.inbox_floor
        client.marked = claimed.marked
        self._clients.by_id[client_id] = client
        if older is not None and older is not client:
            older.drop(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
        client.step(State.JOINING)
        self._admission.registered(client)
