"""Rights of open connections: a withdrawn right ends at once, in every process.

A change comes as a notification, or is found among the rows of ``AccessChange``, whichever is first. The identities that it
concerns are read again together. A connection whose identity is no longer valid is closed with the reason. A membership
that is no longer allowed ends with an ``unsubscribed`` frame. Identities also end here when they expire.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from channels.db import database_sync_to_async
from django.db import Error as DatabaseError

from ...auth import identity, tickets
from ...auth.permissions import JOIN, Actor, table
from ...directory.channels import ChannelRef
from ...protocol.errors import NOT_ALLOWED, UNIDENTIFIED, BusError, ErrorCode
from ...services import rights as access
from ..client import Clients, ClientState
from ..delivery.channels import Channels
from ..permissions import Permissions
from ..runtime import Runtime
from ..threads import unavailable
from .memberships import Memberships
from .observers import Observers

logger = logging.getLogger("arqonbus.access")

#: Seconds between looks for changes that no notification announced.
LOOK = 0.5
#: Most seconds between reading an identity and giving it to its connection.
RECENT = 10.0
#: Identities that are read again at once.
BATCH = 500
#: Seconds between deletions of old changes and tickets.
TIDY = 300.0


class Change(NamedTuple):
    """A change of rights that came to this process lately."""

    #: Loop time at which it came.
    at: float
    #: Whom it concerns (``services.rights.concerns``).
    subject: str


class Rights:
    """Holds the connections of this process to the rights that they have now."""

    def __init__(
        self,
        runtime: Runtime,
        clients: Clients,
        channels: Channels,
        permissions: Permissions,
        memberships: Memberships,
        observers: Observers,
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._channels = channels
        self._permissions = permissions
        self._memberships = memberships
        self._observers = observers
        self._seen: set[int] = set()
        self._latest = 0
        # What :meth:`_work` has to look at: subjects of changes, clients, and clients each with a room.
        self._subjects: set[str] = set()
        self._to_renew: set[ClientState] = set()
        self._to_recheck: set[tuple[ClientState, str]] = set()
        # For identities that were read just before a change and reach their connection just after it.
        self._recent: deque[Change] = deque(maxlen=1000)
        self._task: asyncio.Task[None] | None = None
        self._expiring: dict[str, ClientState] = {}
        self._renewed_at = runtime.loop.time()
        self._tidied_at = float("-inf")

    # --- questions ------------------------------------------------------------------------------------------------------

    def may_join(self, client: ClientState, ref: ChannelRef) -> bool:
        """Return whether the client may join the channel, by what this process knows."""
        return self._permissions.may(client, JOIN, ref)

    def require_join(self, client: ClientState, ref: ChannelRef) -> None:
        """Raise ``BusError`` FORBIDDEN, or CHANNEL_NOT_FOUND for a hidden channel, unless :meth:`may_join`."""
        self._permissions.check(client, JOIN, ref)

    async def check_join(self, client: ClientState, ref: ChannelRef) -> None:
        """As :meth:`require_join`, but read the newest grants before a refusal. Raises ``BusError`` UNAVAILABLE, too."""
        if not self.may_join(client, ref):
            await self.read_grants()
            self.require_join(client, ref)

    async def read_grants(self) -> None:
        """Read the newest grants, so that one granted a moment ago counts. Raises ``BusError`` UNAVAILABLE."""
        try:
            await self.catch_up()
        except DatabaseError:
            raise unavailable() from None

    # --- what changed ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Skip the changes until now. Called before the first connection, in a database thread."""
        self._latest = access.latest()
        self._seen = {change for change, _ in access.changes(self._latest - access.OVERLAP)}

    def identified(self, client: ClientState) -> None:
        """Watch over a connection that has a new ``actor``."""
        if client.actor.expires_at is not None:
            self._expiring[client.connection_id] = client
        since = self._runtime.loop.time() - RECENT
        while self._recent and self._recent[0].at < since:
            self._recent.popleft()
        if any(access.concerns(change.subject, client.actor) for change in self._recent):
            self._to_renew.add(client)
            self._wake()

    def changed(self, subject: str, change: int = 0) -> None:
        """Look again at the connections that ``subject`` concerns. A row of changes, by its id, counts only once."""
        if change:
            if change in self._seen:
                return
            self._seen.add(change)
            self._latest = max(self._latest, change)
            if subject != access.RULES and not subject.startswith("room:"):
                self._recent.append(Change(self._runtime.loop.time(), subject))
        self._subjects.add(subject)
        self._wake()

    def recheck_if_changed(self, client: ClientState, ref: ChannelRef) -> None:
        """Look again at a new membership if its channel changed while it was joined."""
        if self._channels.known(ref.address) != ref:
            self._to_recheck.add((client, ref.address.room))
            self._wake()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._runtime.loop.create_task(self._work())

    def stop(self) -> None:
        """Cancel the work that goes on."""
        if self._task is not None:
            self._task.cancel()

    # --- finding changes ------------------------------------------------------------------------------------------------

    async def look(self) -> float:
        """Find changes without a notification and identities that expired. Return the seconds until the next look."""
        settings = self._runtime.settings
        await self._find()
        if len(self._seen) > 4 * access.OVERLAP:
            self._seen = {change for change in self._seen if change > self._latest - access.OVERLAP}
        self._close_expired()
        now = self._runtime.loop.time()
        if settings.revalidate and now - self._renewed_at >= settings.revalidate:
            self._renewed_at = now
            self.changed(access.EVERYONE)
        if now - self._tidied_at >= TIDY:
            self._tidied_at = now
            await self._runtime.run_writer(_forget_old)
        return LOOK

    async def _find(self) -> None:
        rows = await self._runtime.run(access.changes, max(self._latest - access.OVERLAP, 0))
        for change, subject in rows:
            self.changed(subject, change)

    async def catch_up(self) -> None:
        """Read the changes until now and wait until they are applied. Raises the database's error."""
        await self._find()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=2.0)

    def _close_expired(self) -> None:
        now = time.time()
        for key, client in list(self._expiring.items()):
            if key not in self._clients.by_connection or client.actor.expires_at is None:
                del self._expiring[key]
            elif client.actor.expires_at <= now:
                del self._expiring[key]
                client.drop(UNIDENTIFIED, _expired(client.actor))

    # --- applying them --------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while self._subjects or self._to_renew or self._to_recheck:
            subjects, self._subjects = self._subjects, set()
            to_renew, self._to_renew = self._to_renew, set()
            to_recheck, self._to_recheck = self._to_recheck, set()
            try:
                if subjects:
                    await self._apply(subjects)
                if to_renew:
                    await self._hold_to(list(to_renew), set(), renew=True)
                if to_recheck:
                    clients = list({client for client, _ in to_recheck})
                    await self._hold_to(clients, {room for _, room in to_recheck}, renew=False)
            except Exception as problem:
                # Nothing is lost when the database was away for a moment, or by a fault of this code.
                if isinstance(problem, DatabaseError) or getattr(problem, "code", "") == ErrorCode.UNAVAILABLE:
                    logger.warning("changed rights wait for the database: %s", problem, extra={"event": "access_waits"})
                else:
                    logger.exception("the check of connected clients failed", extra={"event": "internal_error"})
                self._subjects |= subjects
                self._to_renew |= to_renew
                self._to_recheck |= to_recheck
                await asyncio.sleep(0.5)

    async def _apply(self, subjects: set[str]) -> None:
        if subjects & {access.RULES, access.EVERYONE}:
            await self._runtime.run(table().refresh)
        rooms = {subject.partition(":")[2] for subject in subjects if subject.startswith("room:")}
        for room in rooms:
            self._channels.forget_room(room)
        if rooms:
            self._clients.forget_permissions()
        # A change of rules changes no identity.
        renew = any(subject != access.RULES and not subject.startswith("room:") for subject in subjects)
        everybody = self._clients.by_connection.values()
        clients = [c for c in everybody if any(access.concerns(subject, c.actor) for subject in subjects)]
        for start in range(0, len(clients), BATCH):
            await self._hold_to(clients[start : start + BATCH], rooms, renew=renew)

    async def _hold_to(self, clients: Sequence[ClientState], rooms: set[str], *, renew: bool) -> None:
        """Close the clients without a valid identity and end the memberships without a right.

        With ``renew`` identities are read again. Channels in ``rooms`` are looked up again.
        """
        actors = list({id(client.actor): client.actor for client in clients}.values())
        answers = await self._renewed(actors) if renew else list(actors)
        now = {id(actor): answer for actor, answer in zip(actors, answers, strict=True)}
        lost: list[tuple[ClientState, list[ChannelRef]]] = []
        for client in clients:
            answer = now.get(id(client.actor))
            if answer is None:
                # It registered meanwhile, perhaps with an identity that was read before the change.
                self._to_renew.add(client)
                continue
            if isinstance(answer, BusError):
                client.drop(UNIDENTIFIED if answer.code == ErrorCode.UNAUTHENTICATED else NOT_ALLOWED, answer)
                continue
            if answer != client.actor:
                client.actor = answer
            client.allowed.clear()
            await self._observers.hold(client, rooms)
            refs = await self._not_allowed(client, rooms)
            if refs:
                lost.append((client, refs))
        await asyncio.gather(*(self._memberships.withdraw(client, refs) for client, refs in lost))

    async def _renewed(self, actors: list[Actor]) -> list[Actor | BusError]:
        if any(actor.bearer for actor in actors):
            # The project's function may take its time for each, and the node's threads have work of all clients to do.
            apart = database_sync_to_async(identity.renewed, thread_sensitive=False)
            answers: list[Actor | BusError] = await apart(actors)
            return answers
        return await self._runtime.run(identity.renewed, actors)

    async def _not_allowed(self, client: ClientState, rooms: Iterable[str]) -> list[ChannelRef]:
        """Return the memberships that ``client`` may not have any more. Raises ``BusError`` UNAVAILABLE."""
        refs = []
        for ref in list(client.memberships.values()):
            if ref.address.room in rooms:
                try:
                    fresh = await self._channels.resolve(ref.address, client.actor, create=False)
                except BusError as problem:
                    if problem.code == ErrorCode.UNAVAILABLE:
                        raise
                    continue  # The channel is gone, and the membership with it.
                if ref.id in client.memberships:
                    client.memberships[ref.id] = ref = fresh
            if not self.may_join(client, ref):
                refs.append(ref)
        return refs


def _expired(actor: Actor) -> BusError:
    session = actor.credential.startswith("session:")
    return BusError(
        ErrorCode.UNAUTHENTICATED, "Your session has ended. Log in again." if session else "Your access has expired."
    )


def _forget_old() -> None:
    access.forget_old()
    tickets.forget_old()
