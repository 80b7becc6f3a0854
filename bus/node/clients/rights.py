"""Permissions of open connections: what is withdrawn ends at once, in every process.

A change comes by notification, or is found among the rows of ``AccessChange``, whichever is first. The identities that it
concerns are read again together. Connections whose identity is gone are closed with the reason; memberships that are not
allowed any more end with an ``unsubscribed`` frame. Identities that expire are watched here too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django.db import Error as DatabaseError

from ...auth import identity, tickets
from ...auth.permissions import JOIN, Actor, table
from ...directory.channels import ChannelRef
from ...notify.messages import ChannelChanged
from ...protocol.errors import NOT_ALLOWED, UNIDENTIFIED, BusError, ErrorCode
from ...services import rights as access
from ..client import ClientState

if TYPE_CHECKING:
    from ..node import Node

logger = logging.getLogger("arqonbus.access")

#: Time between looks for changes that no notification announced; seconds.
LOOK = 0.5
#: How old an identity can be when it comes to its connection; seconds.
LATELY = 10.0
#: Identities that are read again in one go.
TOGETHER = 500


class Access:
    """A node's watch over who may stay, and where."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._seen: set[int] = set()
        self._latest = 0
        self._subjects: set[str] = set()
        self._clients: set[ClientState] = set()
        self._doubted: set[tuple[ClientState, str]] = set()
        # What changed lately, for identities that were read just before and come to their connection just now.
        self._lately: deque[tuple[float, str]] = deque(maxlen=1000)
        self._task: asyncio.Task[None] | None = None
        self._ending: dict[str, ClientState] = {}
        self._swept_at = node.loop.time()
        self._tidied_at = float("-inf")

    def begin(self) -> None:
        """Before the first connection, in a database thread: what changed until now is in what will be read."""
        self._latest = access.latest()
        self._seen = {change for change, _ in access.changes(self._latest - access.OVERLAP)}

    def identified(self, client: ClientState) -> None:
        """``client.actor`` was set."""
        if client.actor.expires_at is not None:
            self._ending[client.connection_id] = client
        since = self._node.loop.time() - LATELY
        while self._lately and self._lately[0][0] < since:
            self._lately.popleft()
        if any(access.concerns(subject, client.actor) for _, subject in self._lately):
            self._clients.add(client)
            self._wake()

    def hear(self, subject: str, change: int = 0) -> None:
        """Somebody rang: look at whom it concerns. ``change`` is the row's id, once only acted on."""
        if change:
            if change in self._seen:
                return
            self._seen.add(change)
            self._latest = max(self._latest, change)
            if subject != access.RULES and not subject.startswith("room:"):
                self._lately.append((self._node.loop.time(), subject))
        self._subjects.add(subject)
        self._wake()

    def doubt(self, client: ClientState, room: str) -> None:
        """``client`` became a member in ``room`` by what is no longer known of it: look at it once more."""
        self._doubted.add((client, room))
        self._wake()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._node.loop.create_task(self._work())

    def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()

    # --- finding out ------------------------------------------------------------------------------------------------

    async def look(self) -> float:
        """Find changes without a notification, and expired identities; seconds until the next look."""
        node = self._node
        await self._find()
        if len(self._seen) > 4 * access.OVERLAP:
            self._seen = {change for change in self._seen if change > self._latest - access.OVERLAP}
        self._end_by_the_clock()
        now = node.loop.time()
        if node.settings.revalidate and now - self._swept_at >= node.settings.revalidate:
            self._swept_at = now
            self.hear(access.EVERYONE)
        if now - self._tidied_at >= 300:
            self._tidied_at = now
            await node.run_writer(_tidy)
        return LOOK

    async def _find(self) -> None:
        rows: list[tuple[int, str]] = await self._node.run(access.changes, max(self._latest - access.OVERLAP, 0))
        for change, subject in rows:
            self.hear(subject, change)

    async def catch_up(self) -> None:
        """Before somebody is refused: what was granted a moment ago counts, whether or not we have heard of it."""
        await self._find()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=2.0)

    def _end_by_the_clock(self) -> None:
        now = time.time()
        for key, client in list(self._ending.items()):
            if key not in self._node.clients.by_connection or client.actor.expires_at is None:
                del self._ending[key]
            elif client.actor.expires_at <= now:
                del self._ending[key]
                client.drop(*_ended(client.actor))

    # --- acting -----------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while self._subjects or self._clients or self._doubted:
            subjects, self._subjects = self._subjects, set()
            clients, self._clients = self._clients, set()
            doubted, self._doubted = self._doubted, set()
            try:
                if subjects:
                    await self._act(subjects)
                if clients:
                    await self._look_at(list(clients), set(), people=True)
                if doubted:
                    await self._look_at(list({p for p, _ in doubted}), {room for _, room in doubted}, people=False)
            except Exception as problem:
                # Nothing is forgotten because the store was away for a moment, or because of a fault of our own.
                if isinstance(problem, DatabaseError) or getattr(problem, "code", "") == ErrorCode.UNAVAILABLE:
                    logger.warning("access waits for the store: %s", problem, extra={"event": "access_waits"})
                else:
                    logger.exception("a look at who may stay failed", extra={"event": "internal_error"})
                self._subjects |= subjects
                self._clients |= clients
                self._doubted |= doubted
                await asyncio.sleep(0.5)

    async def _act(self, subjects: set[str]) -> None:
        node = self._node
        if subjects & {access.RULES, access.EVERYONE}:
            await node.run(table().refresh)
        rooms = {subject.partition(":")[2] for subject in subjects if subject.startswith("room:")}
        for room in rooms:
            node.changed(ChannelChanged(room, ""))
        # A change of rules changes nobody's identity.
        people = any(subject != access.RULES and not subject.startswith("room:") for subject in subjects)
        clients = [
            p
            for p in node.clients.by_connection.values()
            if any(access.concerns(subject, p.actor) for subject in subjects)
        ]
        for start in range(0, len(clients), TOGETHER):
            await self._look_at(clients[start : start + TOGETHER], rooms, people=people)

    async def _look_at(self, clients: Sequence[ClientState], rooms: set[str], *, people: bool) -> None:
        node = self._node
        actors = list({id(client.actor): client.actor for client in clients}.values())
        answers: list[Actor | BusError] = await node.run(identity.renewed, actors) if people else list(actors)
        now = {id(actor): answer for actor, answer in zip(actors, answers, strict=True)}
        lost: list[tuple[ClientState, list[ChannelRef]]] = []
        for client in clients:
            answer = now.get(id(client.actor))
            if answer is None:
                self._clients.add(client)  # It registered meanwhile, maybe with what was read before.
                continue
            if isinstance(answer, BusError):
                client.drop(UNIDENTIFIED if answer.code == ErrorCode.UNAUTHENTICATED else NOT_ALLOWED, answer)
                continue
            if answer != client.actor:
                client.actor = answer
            client.allowed.clear()
            refs = await self._not_allowed(client, rooms)
            if refs:
                lost.append((client, refs))
        await asyncio.gather(*(node.members.withdraw(client, refs) for client, refs in lost))

    async def _not_allowed(self, client: ClientState, rooms: Iterable[str]) -> list[ChannelRef]:
        """The memberships that ``client`` may have no longer; those in ``rooms`` are read anew first."""
        node = self._node
        refs = []
        for ref in list(client.memberships.values()):
            if ref.address.room in rooms:
                try:
                    fresh = await node.channels.resolve(ref.address, client.actor, create=False)
                except BusError as problem:
                    if problem.code == ErrorCode.UNAVAILABLE:
                        raise  # Nobody knows; asked again.
                    continue  # It is gone, and the membership with it.
                if ref.id in client.memberships:
                    client.memberships[ref.id] = ref = fresh
            if not node.may(client, JOIN, ref):
                refs.append(ref)
        return refs


def _ended(actor: Actor) -> tuple[int, BusError]:
    session = actor.credential.startswith("session:")
    return UNIDENTIFIED, BusError(
        ErrorCode.UNAUTHENTICATED, "Your session has ended; log in again." if session else "Your access has expired."
    )


def _tidy() -> None:
    access.forget_old()
    tickets.forget_old()
