"""Joining, leaving and going: what makes a connection a member, and ends it (contract §5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import Error as DatabaseError

from ... import signals
from ...auth.permissions import HISTORY, JOIN, can, table
from ...directory.channels import ChannelRef
from ...protocol import frames
from ...protocol.errors import SLOW, BusError, Closing, ErrorCode
from ...protocol.names import EVERYONE, WHOLE, Address
from ...protocol.state import State
from ...realtime.hub import Stream
from ...services.connections import Join, Leave, Operation, Release
from ...services.held import ChannelHeld
from ..client import ClientState
from ..delivery.replay import behind_floor
from ..delivery.streams import Vanished
from ..threads import unavailable

if TYPE_CHECKING:
    from ..node import Node

logger = logging.getLogger("arqonbus.node")

#: After how many seconds a channel that somebody's transaction holds is asked for again.
HELD_AGAIN = 0.05


class Joined(msgspec.Struct):
    """The answer to a join, before what was missed is sent."""

    ref: ChannelRef
    participants: int
    epoch: str
    seq: int
    recovered: bool | None
    first_seq: int | None
    #: From where the messages follow; None when the connection is a member already.
    position: int | None
    created: bool = False
    #: Whether it was no member before, so that the others are told.
    new: bool = True
    #: Where the membership stands in each log that comes with it, also the room's own: ``{address: {epoch, seq}}``; not in
    #: those that an earlier resume or join still catches up with.
    positions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class Members:
    """The memberships of a node's connections."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- joining and leaving ------------------------------------------------------------------------------------------

    async def join(self, client: ClientState, address: Address, since: int | str | None, epoch: str | None) -> Joined:
        """Make ``client`` a member; the caller sends the answer, then calls :meth:`follow`.

        Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        node = self._node
        if not address.is_channel:
            raise BusError(ErrorCode.INVALID_NAME, f"{address} is not a channel to join.", [{"field": "channel"}])
        member = any(ref.address == address for ref in client.memberships.values())
        if not member and not self.room_for_one_more(client):
            limit = node.settings.memberships
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"At most {limit} channels at once.",
                [{"limit": "memberships", "value": limit}],
            )
        for _ in range(3):
            ref, created = await node.channels.ensure(address, client.actor)
            await self.check(client, ref)
            try:
                joined = await self._join(client, ref, since, epoch, created=created)
            except Vanished:
                continue
            if joined is not None:
                return joined
            self.vanished(ref)
        raise unavailable()

    async def _join(
        self, client: ClientState, ref: ChannelRef, since: int | str | None, epoch: str | None, *, created: bool
    ) -> Joined | None:
        """:meth:`join` once it is known where; None when the channel went meanwhile."""
        node = self._node
        member = ref.id in client.memberships
        stream, room_log = await self.open([ref, await self.room_log(ref)])
        position, recovered, first = stream.head, None, None
        if since is not None:
            position, recovered, first = await self.recover(client, ref, stream, since, epoch)
        try:
            participants = await self.write_join(client, ref)
        except BusError:
            if not member:
                self._take_back(Leave(client.client_id, client.connection_id, ref.id))
            raise
        if participants is None:
            return None
        if not member:
            if not node.may(client, JOIN, ref):
                # Withdrawn meanwhile; there was nothing yet to take it away from.
                await self.write(Leave(client.client_id, client.connection_id, ref.id))
                node.check(client, JOIN, ref)
            self.remember(client, ref)
            if room_log.id not in client.replays:
                node.hub.add(room_log, client)
        elif since is not None:
            client.replays.pop(stream.id, None)
            node.hub.remove(stream, client)  # Until it caught up.
        # The answer's heads are those of what was written to the socket before it.
        for open_stream in (stream, room_log):
            node.hub.settle(open_stream)
        # Of a log that is caught up with the client knows better where it stands.
        heard = [log for log in (stream, room_log) if log.id not in client.replays]
        positions = {f"{log.room}:{log.channel}": {"epoch": log.epoch, "seq": log.head} for log in heard}
        start: int | None = position if since is not None else stream.head
        if member and since is None:
            start = None
        return Joined(
            ref,
            participants or 0,
            stream.epoch,
            stream.head,
            recovered,
            first,
            start,
            created,
            new=not member,
            positions=positions,
        )

    def _take_back(self, leave: Leave) -> None:
        """Whoever was told that a join failed is in no list of members, should it be written down after all."""
        done = self._node.presence.submit(leave)
        done.add_done_callback(lambda future: None if future.cancelled() else future.exception())

    async def follow(self, client: ClientState, joined: Joined) -> None:
        """Send what a member missed, then what comes. What does not come from memory is sent while the connection goes on.

        Raises ``Closing`` when the channel's log cannot be had any more.
        """
        node = self._node
        if joined.position is None or joined.ref.id not in client.memberships:
            return
        stream = node.hub.stream(joined.ref.id)
        if stream is None:
            try:
                (stream,) = await self.open([joined.ref])
            except (BusError, Vanished):
                raise Closing(SLOW, unavailable()) from None
        self.catch_up(client, [(stream, joined.position)])
        if joined.new:
            node.notices.joined(client, joined.ref, joined.participants)

    def catch_up(self, client: ClientState, starts: Sequence[tuple[Stream, int]]) -> None:
        """Follow each stream from its position: at once where memory has it all, else by and by."""
        replays = self._node.replays
        late = [(stream, position) for stream, position in starts if not replays.follow(client, stream, position)]
        if late:
            client.replays.update((stream.id, late) for stream, _ in late)
            self._node.spawn(self._replay(client, late))

    async def _replay(self, client: ClientState, starts: Sequence[tuple[Stream, int]]) -> None:
        """Replay one log after another, but those that the client left meanwhile, or asked for anew."""
        try:
            for stream, position in starts:

                def wanted(here: int = stream.id) -> bool:
                    return client.replays.get(here) is starts

                await self._node.replays.replay(client, stream, position, wanted)
                if wanted():
                    del client.replays[stream.id]
        except Closing as closing:
            client.drop(closing.close_code, closing.error)
        except Exception:
            logger.exception("replay failed", extra={"event": "internal_error", "client": client.client_id})
            client.drop(SLOW, BusError(ErrorCode.INTERNAL_ERROR, retry_after=1.0))

    async def leave(self, client: ClientState, address: Address) -> list[str]:
        """End a membership; returns the addresses of those that are left. Raises ``BusError`` NOT_A_MEMBER, UNAVAILABLE."""
        node = self._node
        ref = next((ref for ref in client.memberships.values() if ref.address == address), None)
        if ref is None:
            raise BusError(ErrorCode.NOT_A_MEMBER, f"You are not a member of {address}.", [{"address": str(address)}])
        # Who is refused stays what it was: a member.
        participants: int = await self.write(Leave(client.client_id, client.connection_id, ref.id))
        if ref.id in client.memberships:
            self.forget(client, ref)
            node.notices.left(client.card(), ref, participants)
        return sorted(str(ref.address) for ref in client.memberships.values())

    async def withdraw(self, client: ClientState, refs: Sequence[ChannelRef]) -> None:
        """End memberships that are no longer allowed: nothing more is delivered from this moment on, and the client is told."""
        node = self._node
        for ref in refs:
            self._end(client, ref, ErrorCode.REVOKED)
        for ref in refs:
            if node.clients.by_id.get(client.client_id) is not client:
                continue  # A reader that is no client, or whose client is elsewhere by now.
            try:
                participants = await self.write(Leave(client.client_id, client.connection_id, ref.id))
            except BusError:
                continue  # The row goes with the connection at the latest.
            node.notices.left(client.card(), ref, participants)

    def _end(self, client: ClientState, ref: ChannelRef, reason: str) -> None:
        self.forget(client, ref)
        place = {"room": ref.address.room, "channel": ref.address.channel}
        self._node.hub.send(client, frames.system("unsubscribed", ref.address, **place, reason=reason))

    def forget(self, client: ClientState, ref: ChannelRef) -> None:
        """Take a connection out of a channel of this process."""
        node = self._node
        if client.memberships.pop(ref.id, None) is None:
            return
        client.replays.pop(ref.id, None)
        stream = node.hub.stream(ref.id)
        if stream is not None:
            node.hub.remove(stream, client)
        room = ref.address.room
        client.rooms[room] = client.rooms.get(room, 1) - 1
        if client.rooms[room] <= 0:
            del client.rooms[room]
            for log in node.hub.whole(room):
                client.replays.pop(log.id, None)
                node.hub.remove(log, client)

    def drop_stream(self, channel_id: int, problem: BusError | None) -> None:
        """A log is gone: members of a channel are told that they are none.

        With ``problem`` they are sent away, to find the new one; so are always those of an inbox or a whole room, who hear it
        without being able to join it anew.
        """
        node = self._node
        stream = node.hub.streams.get(channel_id)
        if stream is None:
            return
        node.channels.forget(Address(stream.room, stream.channel))
        for member in list(stream.members):
            if isinstance(member, ClientState):
                ref = member.memberships.get(channel_id)
                if problem is None and ref is not None:
                    self._end(member, ref, "DELETED")
                else:
                    member.drop(SLOW, problem or rebuilt())
        node.hub.discard(channel_id)

    async def gone(self, client: ClientState, code: int) -> None:
        """The connection is closed: nothing of it stays but, for lasting identities, its inbox."""
        node = self._node
        node.admission.leave(client)
        if not client.claimed:
            return
        refs = list(client.memberships.values())
        for ref in refs:
            self.forget(client, ref)
        client.replays.clear()
        own = node.hub.stream(client.inbox_id)
        for stream in [*node.hub.whole(EVERYONE.room), *([own] if own is not None else [])]:
            node.hub.remove(stream, client)
        if node.clients.by_id.get(client.client_id) is client:
            del node.clients.by_id[client.client_id]
        if client.reached is State.REGISTERED:
            private = await node.channels.is_private(client.initial)
            signals.client_disconnected.send_robust(
                ClientState,
                client=client.card(),
                code=code,
                kind=client.kind,
                room=client.initial.room,
                private=private,
            )
        if node.draining:
            return  # The node forgets all of its clients at once.
        # Where the others had given this process up they have told who left already.
        told = client.connection_id in node.life.given_up
        node.life.given_up.discard(client.connection_id)
        release = Release(
            client.client_id, client.connection_id, client.last_active(), [] if told else [ref.id for ref in refs]
        )
        if not await self.release(release, client.card(), refs):
            node.life.owed.append((release, client.card(), refs))

    async def release(self, release: Release, card: dict[str, Any], refs: Sequence[ChannelRef]) -> bool:
        """Write down that a connection is gone, and tell those who are left; False when the store does not take it now."""
        try:
            left: dict[int, int] = await self.write(release)
        except (BusError, RuntimeError):
            return False
        for ref in refs:
            # A newer connection of the client, here or on another process, may be a member in its place.
            if ref.id in left:
                self._node.notices.left(card, ref, left[ref.id])
        return True

    async def recover(
        self, client: ClientState, ref: ChannelRef, stream: Stream, since: int | str, epoch: str | None
    ) -> tuple[int, bool, int | None]:
        """From where ``client`` goes on in a log (``Replays.recover``); what was before it came is for readers of history.

        ``ref`` is what the log was found by; what was heard of the channel since then counts before it.
        """
        ref = self._node.channels.known(ref.address) or client.memberships.get(ref.id, ref)
        if not can(client.actor, HISTORY, ref.address, private=ref.private, rules=table().loaded):
            return stream.head, False, stream.head + 1
        place = await self._node.replays.recover(stream, since, epoch)
        return behind_floor(place, client.inbox_floor) if ref.address.is_inbox else place

    # --- parts --------------------------------------------------------------------------------------------------------

    async def check(self, client: ClientState, ref: ChannelRef) -> None:
        """Raise ``BusError`` FORBIDDEN (or not found, for what is hidden) unless the connection may join."""
        if not self._node.may(client, JOIN, ref):
            await self.hear_of_grants()
            self._node.check(client, JOIN, ref)

    async def hear_of_grants(self) -> None:
        """Before somebody is refused: what was granted a moment ago counts. Raises ``BusError`` UNAVAILABLE."""
        try:
            await self._node.access.catch_up()
        except DatabaseError:
            raise unavailable() from None

    def remember(self, client: ClientState, ref: ChannelRef) -> None:
        """Note a membership at the connection; it is heard once the stream has it."""
        client.memberships[ref.id] = ref
        if self._node.channels.known(ref.address) != ref:
            # It changed while it was being joined, and maybe nobody may any more.
            self._node.access.doubt(client, ref.address.room)
        client.rooms[ref.address.room] = client.rooms.get(ref.address.room, 0) + 1

    def room_for_one_more(self, client: ClientState) -> bool:
        """Whether the connection may be a member of another channel, by the setting ``memberships``."""
        limit = self._node.settings.memberships
        return not limit or len(client.memberships) < limit or client.actor.admin

    async def room_log(self, ref: ChannelRef) -> ChannelRef:
        """The whole room's log, which members of any of its channels hear."""
        return await self._node.channels.resolve(Address(ref.address.room, WHOLE), self._node.system)

    def vanished(self, ref: ChannelRef) -> None:
        """Some process deleted the channel, and its notification was lost: look it up anew."""
        self._node.channels.forget(ref.address)

    async def open(self, refs: list[ChannelRef]) -> list[Stream]:
        """The streams; raises ``BusError`` UNAVAILABLE, and ``Vanished`` after which the next look finds what there is."""
        try:
            return await self._node.streams.open(refs)
        except DatabaseError:
            raise unavailable() from None
        except Vanished as gone:
            for ref in refs:
                if ref.id == gone.channel_id:
                    self.vanished(ref)
            raise

    async def write_join(self, client: ClientState, ref: ChannelRef) -> int | None:
        """The number of members with ``client`` among them; None when the channel is gone."""
        count: int | None = await self.write(Join(client.client_id, client.connection_id, ref.id))
        return count

    async def write(self, operation: Operation) -> Any:
        """The answer of the presence tables. Raises ``BusError`` UNAVAILABLE when none comes in time."""
        problem = unavailable()
        try:
            async with asyncio.timeout(self._node.settings.store_timeout + 3.0):
                while True:
                    try:
                        return await self._node.presence.submit(operation)
                    except ChannelHeld:
                        problem = BusError(
                            ErrorCode.UNAVAILABLE, "Another transaction holds this channel. Try again.", retry_after=1.0
                        )
                        await asyncio.sleep(HELD_AGAIN)
        except (DatabaseError, TimeoutError):
            raise problem from None


def rebuilt() -> BusError:
    """For those whose log is another one by now: who comes back with its position is told so (``recovered: false``)."""
    return BusError(ErrorCode.RESTARTING, "The log was rebuilt; come back.", retry_after=0.5)
