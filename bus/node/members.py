"""Registering, joining, leaving and going: what makes a connection a member (contract §3, §5)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import Error as DatabaseError

from .. import signals
from ..permissions import JOIN, Actor
from ..protocol import frames
from ..protocol.dialects import Registration
from ..protocol.errors import BusError
from ..protocol.names import (
    DEFAULT_ADDRESS,
    EVERYONE,
    INBOX_ROOM,
    WHOLE,
    Address,
    inbox,
    parse_address,
    whole_room,
)
from ..protocol.routing import resolve
from ..realtime.hub import Stream
from ..services.channels import ChannelRef
from ..services.clients import Claim, Claimed, Join, Leave, Release
from .peer import Peer

if TYPE_CHECKING:
    from .node import Node


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


class Members:
    """The memberships of a node's connections."""

    def __init__(self, node: Node) -> None:
        self._node = node

    # --- registration -----------------------------------------------------------------------------------------------

    async def register(self, peer: Peer, wanted: Registration, actor: Actor) -> None:
        """Give ``peer`` its identity, initial pair and first memberships, and send ``registered`` and what it missed.

        Raises ``BusError`` for what cannot be, ``Closing`` for what ends the connection (an id in use).
        """
        node = self._node
        generated = wanted.client_id is None
        client_id = wanted.client_id or peer.client_id
        actor = msgspec.structs.replace(actor, client_id=client_id, client_type=wanted.client_type)
        peer.actor = actor
        peer.allowed.clear()
        initial = self._initial(wanted)
        ref = await node.resolve(initial, actor)
        await self._check(peer, ref)
        everyone = await node.resolve(EVERYONE, actor)
        streams = await self._open([ref, await self._room_log(ref), everyone])
        token = secrets.token_urlsafe(18)
        resume = wanted.resume
        claim = Claim(
            node_id=node.id,
            connection_id=peer.connection_id,
            client_id=client_id,
            generated=generated,
            client_type=wanted.client_type,
            screen_name=wanted.screen_name or "",
            avatar=wanted.avatar or "",
            personality=wanted.personality,
            role=actor.role,
            principal=actor.principal,
            resume_token=resume.token if resume else None,
            new_token=token,
            channel_id=ref.id,
            last_activity=peer.last_active(),
        )
        try:
            claimed: Claimed = await node.presence.submit(claim)
        except DatabaseError:
            raise BusError("UNAVAILABLE", "The store does not answer. Try again.", retry_after=1.0) from None
        peer.client_id, peer.client_type = client_id, wanted.client_type
        peer.screen_name, peer.avatar = wanted.screen_name, wanted.avatar
        if wanted.personality:
            peer.personality = wanted.personality
        peer.initial, peer.resume_token = initial, token
        peer.inbox_floor = claimed.inbox_floor
        older = node.by_client.get(client_id)
        node.by_client[client_id] = peer
        if older is not None and older is not peer:
            older.registered = False
        peer.registered = True
        node.admission.registered(peer)
        positions = dict(resume.positions) if resume else {}
        if wanted.since is not None:
            positions.setdefault(str(initial), {"seq": wanted.since, "epoch": wanted.epoch})
        await self._enter(peer, ref, streams, claimed, positions)
        signals.client_connected.send_robust(
            Peer, client=peer.card(), room=initial.room, channel=initial.channel, kind=peer.kind
        )

    @staticmethod
    def _initial(wanted: Registration) -> Address:
        address = resolve(wanted.room, wanted.channel, DEFAULT_ADDRESS)
        if address.is_whole_room:
            address = Address(address.room, DEFAULT_ADDRESS.channel)
        if not address.is_channel:
            raise BusError("INVALID_NAME", f"{address} cannot be the initial channel.", [{"field": "room"}])
        return address

    async def _enter(
        self,
        peer: Peer,
        ref: ChannelRef,
        streams: list[Stream],
        claimed: Claimed,
        positions: dict[str, dict[str, Any]],
    ) -> None:
        node = self._node
        first, room_log, everyone = streams
        listening: list[Stream] = [first, room_log, everyone]
        self._remember(peer, ref)
        if claimed.inbox is not None:
            inbox_id, head, epoch = claimed.inbox
            address = inbox(peer.client_id)
            inbox_ref = ChannelRef(inbox_id, address, 0, epoch, ephemeral=False, private=True, presence=False)
            listening += await self._open([inbox_ref])
            peer.inbox_id, peer.inbox_seq = inbox_id, head
        extra: list[ChannelRef] = []
        for text in positions:
            more = await self._rejoin(peer, text)
            if more is not None:
                extra.append(more)
                listening += [s for s in await self._open([more, await self._room_log(more)]) if s not in listening]
        starts: list[tuple[Stream, int]] = []
        told: dict[str, dict[str, Any]] = {}
        for stream in listening:
            address = Address(stream.room, stream.channel)
            position = positions.get(str(address))
            row: dict[str, Any] = {}
            start: int | None = None
            if position is not None:
                start, recovered, left = await node.streams.recover(stream, position["seq"], position.get("epoch"))
                row["recovered"] = recovered
                if left is not None:
                    row["first_seq"] = left
            if address.is_inbox and start is not None:
                start = max(start, peer.inbox_floor)
            told[str(address)] = row
            if start is not None:
                starts.append((stream, start))
        # What was withdrawn meanwhile stays so.
        withdrawn = {here.id for here in (ref, *extra)} - peer.memberships.keys()
        listening = [
            s
            for s in listening
            if s.id not in withdrawn and (s.channel != WHOLE or s.room in peer.rooms or s is everyone)
        ]
        starts = [(stream, start) for stream, start in starts if stream in listening]
        # From here to the first `replay` nothing waits: the heads in the answer are those the memberships begin at.
        replayed = {stream for stream, _ in starts}
        for stream in listening:
            row = told[f"{stream.room}:{stream.channel}"]
            row["epoch"], row["seq"] = stream.epoch, stream.head
        if f"{INBOX_ROOM}:{peer.client_id}" not in told:
            told[f"{INBOX_ROOM}:{peer.client_id}"] = {"epoch": "", "seq": 0}
        peer.writer.send(
            frames.system(
                "registered",
                client_id=peer.client_id,
                client_type=peer.client_type,
                role=peer.actor.role,
                room=ref.address.room,
                channel=ref.address.channel,
                channels=told,
                resume_token=peer.resume_token,
                participants=claimed.participants,
            )
        )
        for stream in listening:
            if stream not in replayed:
                node.hub.add(stream, peer)
        peer.writer.flush()
        node.notices.joined(peer, ref, claimed.participants)
        for more in extra:
            node.notices.joined(peer, more, await self._write_join(peer, more))
        for stream, start in starts:
            await node.streams.replay(peer, stream, start)

    async def _rejoin(self, peer: Peer, text: str) -> ChannelRef | None:
        """A channel that a client that comes back was in, if it still may be; positions of other logs bring no membership."""
        address = parse_address(text)
        if address is None or not address.is_channel:
            return None
        try:
            ref = await self._node.resolve(address, peer.actor, create=False)
            self._node.check(peer, JOIN, ref)
        except BusError:
            return None
        if ref.id in peer.memberships or not self._room_for_one_more(peer):
            return None
        self._remember(peer, ref)
        return ref

    # --- joining and leaving ------------------------------------------------------------------------------------------

    async def join(self, peer: Peer, address: Address, since: int | str | None, epoch: str | None) -> Joined:
        """Make ``peer`` a member; the caller sends the answer, then calls :meth:`follow`.

        Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        node = self._node
        if not address.is_channel:
            raise BusError("INVALID_NAME", f"{address} is not a channel to join.", [{"field": "channel"}])
        member = any(ref.address == address for ref in peer.memberships.values())
        if not member and not self._room_for_one_more(peer):
            limit = node.settings.memberships
            raise BusError(
                "LIMIT_REACHED",
                f"At most {limit} channels at once.",
                [{"limit": "memberships", "value": limit}],
            )
        ref, created = await node.ensure(address, peer.actor)
        await self._check(peer, ref)
        stream, room_log = await self._open([ref, await self._room_log(ref)])
        position, recovered, first = stream.head, None, None
        if since is not None:
            position, recovered, first = await node.streams.recover(stream, since, epoch)
        participants = await self._write_join(peer, ref)
        if not member:
            if not node.may(peer, JOIN, ref):
                # Withdrawn meanwhile; there was nothing yet to take it away from.
                await node.presence.submit(Leave(peer.client_id, peer.connection_id, ref.id))
                node.check(peer, JOIN, ref)
            self._remember(peer, ref)
            node.hub.add(room_log, peer)
        elif since is not None:
            node.hub.remove(stream, peer)  # Until it caught up.
        else:
            return Joined(ref, participants, stream.epoch, stream.head, recovered, first, None, created, new=False)
        if since is None:
            position = stream.head
        return Joined(ref, participants, stream.epoch, stream.head, recovered, first, position, created, new=not member)

    async def follow(self, peer: Peer, joined: Joined) -> None:
        """Send what a member missed, then what comes."""
        node = self._node
        if joined.position is None or joined.ref.id not in peer.memberships:
            return
        stream = node.hub.stream(joined.ref.id)
        if stream is None:
            (stream,) = await self._open([joined.ref])
        await node.streams.replay(peer, stream, joined.position)
        if joined.ref.id not in peer.memberships:
            node.hub.remove(stream, peer)
            return
        if joined.new:
            node.notices.joined(peer, joined.ref, joined.participants)

    async def leave(self, peer: Peer, address: Address) -> list[str]:
        """End a membership; returns the addresses of those that are left. Raises ``BusError`` NOT_A_MEMBER."""
        node = self._node
        ref = next((ref for ref in peer.memberships.values() if ref.address == address), None)
        if ref is None:
            raise BusError("NOT_A_MEMBER", f"You are not a member of {address}.", [{"address": str(address)}])
        self.forget(peer, ref)
        try:
            participants = await node.presence.submit(Leave(peer.client_id, peer.connection_id, ref.id))
        except DatabaseError:
            raise BusError("UNAVAILABLE", retry_after=1.0) from None
        node.notices.left(peer.card(), ref, participants)
        return sorted(str(ref.address) for ref in peer.memberships.values())

    async def withdraw(self, peer: Peer, refs: Sequence[ChannelRef]) -> None:
        """End memberships that are no longer allowed: nothing more is delivered from this moment on, and the client is told."""
        node = self._node
        for ref in refs:
            self.forget(peer, ref)
            place = {"room": ref.address.room, "channel": ref.address.channel}
            node.hub.send(peer, frames.system("unsubscribed", ref.address, **place, reason="REVOKED"))
        for ref in refs:
            if not peer.registered:
                continue  # A reader that is no client, such as a stream of events.
            try:
                participants = await node.presence.submit(Leave(peer.client_id, peer.connection_id, ref.id))
            except DatabaseError:
                continue  # The row goes with the connection at the latest.
            node.notices.left(peer.card(), ref, participants)

    def forget(self, peer: Peer, ref: ChannelRef) -> None:
        """Take a connection out of a channel of this process."""
        node = self._node
        peer.memberships.pop(ref.id, None)
        stream = node.hub.stream(ref.id)
        if stream is not None:
            node.hub.remove(stream, peer)
        room = ref.address.room
        peer.rooms[room] = peer.rooms.get(room, 1) - 1
        if peer.rooms[room] <= 0:
            del peer.rooms[room]
            log_ref = node.known(whole_room(room))
            stream = node.hub.stream(log_ref.id) if log_ref else None
            if stream is not None:
                node.hub.remove(stream, peer)

    async def gone(self, peer: Peer, code: int) -> None:
        """The connection is closed: nothing of it stays but, for lasting identities, its inbox."""
        node = self._node
        node.admission.leave(peer)
        if not peer.resume_token:
            return  # It never was anybody.
        refs = list(peer.memberships.values())
        for ref in refs:
            self.forget(peer, ref)
        everyone = node.known(EVERYONE)
        for stream_id in (peer.inbox_id, everyone.id if everyone else 0):
            stream = node.hub.stream(stream_id)
            if stream is not None:
                node.hub.remove(stream, peer)
        peer.registered = False
        if node.by_client.get(peer.client_id) is peer:
            del node.by_client[peer.client_id]
        signals.client_disconnected.send_robust(Peer, client=peer.card(), code=code, kind=peer.kind)
        if node.draining:
            return  # The node forgets all of its clients at once.
        try:
            release = Release(peer.client_id, peer.connection_id, peer.last_active(), [ref.id for ref in refs])
            left = await node.presence.submit(release)
        except (DatabaseError, RuntimeError):
            return  # The next sign of life, or the others' sweep, puts it right.
        for ref in refs:
            # A newer connection of the client, here or on another process, may be a member in its place.
            if ref.id in left:
                node.notices.left(peer.card(), ref, left[ref.id])

    # --- parts --------------------------------------------------------------------------------------------------------

    async def _check(self, peer: Peer, ref: ChannelRef) -> None:
        """Raise ``BusError`` FORBIDDEN (or not found, for what is hidden) unless the connection may join."""
        if not self._node.may(peer, JOIN, ref):
            try:
                await self._node.access.catch_up()
            except DatabaseError:
                raise BusError("UNAVAILABLE", "The store does not answer. Try again.", retry_after=1.0) from None
            self._node.check(peer, JOIN, ref)

    def _remember(self, peer: Peer, ref: ChannelRef) -> None:
        peer.memberships[ref.id] = ref
        peer.rooms[ref.address.room] = peer.rooms.get(ref.address.room, 0) + 1

    def _room_for_one_more(self, peer: Peer) -> bool:
        limit = self._node.settings.memberships
        return not limit or len(peer.memberships) < limit or peer.actor.admin

    async def _room_log(self, ref: ChannelRef) -> ChannelRef:
        return await self._node.resolve(Address(ref.address.room, WHOLE), self._node.system)

    async def _open(self, refs: list[ChannelRef]) -> list[Stream]:
        try:
            return await self._node.streams.open(refs)
        except DatabaseError:
            raise BusError("UNAVAILABLE", "The store does not answer. Try again.", retry_after=1.0) from None

    async def _write_join(self, peer: Peer, ref: ChannelRef) -> int:
        try:
            count: int = await self._node.presence.submit(Join(peer.client_id, peer.connection_id, ref.id))
        except DatabaseError:
            raise BusError("UNAVAILABLE", "The store does not answer. Try again.", retry_after=1.0) from None
        return count
