"""How a connection becomes a client (contract §3): its identity, its first channels, and what it missed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import Error as DatabaseError

from .. import signals
from ..conf import default_address
from ..permissions import JOIN, Actor
from ..protocol import frames
from ..protocol.errors import NOT_ALLOWED, SLOW, BusError, Closing
from ..protocol.names import EVERYONE, INBOX_ROOM, WHOLE, Address, inbox, parse_address
from ..protocol.registration import Registration
from ..protocol.routing import resolve
from ..realtime.hub import Stream
from ..services.channels import ChannelRef
from ..services.connections import Claim, Claimed
from .peer import Peer
from .replay import check_since
from .streams import Vanished
from .threads import unavailable

if TYPE_CHECKING:
    from .node import Node

#: Where a client that comes back was in each log: ``{address: {epoch, seq}}``.
Positions = dict[str, dict[str, Any]]


class Registrations:
    """Makes the connections of a node its clients."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._members = node.members

    async def register(self, peer: Peer, wanted: Registration, actor: Actor) -> None:
        """Give ``peer`` its identity, initial pair and first memberships, and send ``registered`` and what it missed.

        Raises ``BusError`` for what cannot be, ``Closing`` for what ends the connection (an id in use).
        """
        client_id = wanted.client_id or peer.client_id
        peer.actor = msgspec.structs.replace(actor, client_id=client_id, client_type=wanted.client_type)
        peer.allowed.clear()
        initial = _initial(wanted)
        ref, streams = await self._initial_streams(peer, initial)
        positions = _positions(wanted, initial)
        claimed = await self._claim(peer, wanted, client_id, ref)
        peer.initial = initial
        self._take_identity(peer, wanted, client_id, claimed)
        try:
            await self._enter(peer, ref, streams, claimed, positions)
        except (BusError, DatabaseError):
            # Half registered is nothing that a client could go on from; coming back with its positions is.
            raise Closing(SLOW, unavailable()) from None
        signals.client_connected.send_robust(
            Peer,
            client=peer.card(),
            room=initial.room,
            channel=initial.channel,
            kind=peer.kind,
            private=ref.private,
        )

    async def _initial_streams(self, peer: Peer, initial: Address) -> tuple[ChannelRef, list[Stream]]:
        """The initial channel, and the streams of it, of its room and of everybody."""
        node, members = self._node, self._members
        for _ in range(3):
            ref = await node.channels.resolve(initial, peer.actor)
            await members.check(peer, ref)
            everyone = await node.channels.resolve(EVERYONE, peer.actor)
            try:
                return ref, await members.open([ref, await members.room_log(ref), everyone])
            except Vanished:
                continue
        raise unavailable()

    async def _claim(self, peer: Peer, wanted: Registration, client_id: str, ref: ChannelRef) -> Claimed:
        """Write down whose the id is from now on, with its first membership."""
        claim = Claim(
            node_id=self._node.id,
            connection_id=peer.connection_id,
            client_id=client_id,
            generated=wanted.client_id is None,
            client_type=wanted.client_type,
            screen_name=wanted.screen_name or "",
            avatar=wanted.avatar or "",
            personality=wanted.personality,
            role=peer.actor.role,
            principal=peer.actor.principal,
            resume_token=wanted.resume.token if wanted.resume else None,
            new_token=secrets.token_urlsafe(18),
            channel_id=ref.id,
            last_activity=peer.last_active(),
            most=self._node.admission.most_of_all(peer),
        )
        peer.claimed = True
        try:
            claimed: Claimed = await self._members.write(claim)
        except BusError:
            self._members.vanished(ref)  # Should its channel be what is missing, the next try finds out.
            raise
        return claimed

    def _take_identity(self, peer: Peer, wanted: Registration, client_id: str, claimed: Claimed) -> None:
        """What the database says is so in this process too, also for an older connection of the client."""
        node = self._node
        peer.client_id, peer.client_type = client_id, wanted.client_type
        peer.screen_name, peer.avatar = wanted.screen_name, wanted.avatar
        if wanted.personality:
            peer.personality = wanted.personality
        peer.resume_token = claimed.token
        peer.inbox_floor = claimed.inbox_floor
        older = node.by_client.get(client_id)
        node.by_client[client_id] = peer
        if older is not None and older is not peer:
            older.registered = False
        peer.registered = True
        node.admission.registered(peer)

    async def _enter(
        self, peer: Peer, ref: ChannelRef, streams: Sequence[Stream], claimed: Claimed, positions: Positions
    ) -> None:
        """Begin the memberships, and answer with where each of them begins."""
        node, members = self._node, self._members
        if not node.may(peer, JOIN, ref):
            # Withdrawn while the claim was written: there was no membership yet to take it away from.
            raise Closing(NOT_ALLOWED, BusError("REVOKED"))
        members.remember(peer, ref)
        entered = [(ref, claimed.participants)]
        listening = [*streams, *await self._own_inbox(peer, claimed)]
        for more, participants in await self._rejoin_all(peer, positions):
            try:
                opened = await members.open([more, await members.room_log(more)])
            except Vanished:
                members.forget(peer, more)
                continue
            entered.append((more, participants))
            listening += [stream for stream in opened if stream not in listening]
        told, starts = await self._places(peer, listening, positions)
        listening = _still_heard(peer, listening, [here for here, _ in entered])
        starts = [(stream, start) for stream, start in starts if stream in listening]
        # From here to the first `replay` nothing waits: the heads in the answer are those the memberships begin at.
        channels = {
            f"{stream.room}:{stream.channel}": {**told[stream], "epoch": stream.epoch, "seq": stream.head}
            for stream in listening
        }
        channels.setdefault(f"{INBOX_ROOM}:{peer.client_id}", {"epoch": "", "seq": 0})
        peer.writer.send(
            frames.system(
                "registered",
                client_id=peer.client_id,
                client_type=peer.client_type,
                role=peer.actor.role,
                room=ref.address.room,
                channel=ref.address.channel,
                channels=channels,
                resume_token=peer.resume_token,
                participants=claimed.participants,
            )
        )
        peer.entered = True
        replayed = {stream for stream, _ in starts}
        for stream in listening:
            if stream not in replayed:
                node.hub.add(stream, peer)
        peer.writer.flush()
        for here, participants in entered:
            node.notices.joined(peer, here, participants)
        members.catch_up(peer, starts)

    async def _own_inbox(self, peer: Peer, claimed: Claimed) -> list[Stream]:
        """The stream of the client's inbox, if anybody ever wrote to it."""
        if claimed.inbox is None:
            return []
        inbox_id, head, epoch = claimed.inbox
        address = inbox(peer.client_id)
        ref = ChannelRef(inbox_id, address, epoch, ephemeral=False, private=True, presence=False)
        streams = await self._members.open([ref])
        peer.inbox_id, peer.inbox_seq = inbox_id, head
        return streams

    async def _rejoin_all(self, peer: Peer, positions: Iterable[str]) -> list[tuple[ChannelRef, int]]:
        """Make ``peer`` a member again of the channels among ``positions``; each with its number of participants."""
        members = self._members
        wanted = [ref for text in positions if (ref := await self._rejoin(peer, text)) is not None]
        counts = await asyncio.gather(*(members.write_join(peer, ref) for ref in wanted))
        joined = []
        for ref, count in zip(wanted, counts, strict=True):
            if count is None:
                members.vanished(ref)
                members.forget(peer, ref)
            else:
                joined.append((ref, count))
        return joined

    async def _rejoin(self, peer: Peer, text: str) -> ChannelRef | None:
        """A channel that a client that comes back was in, if it still may be; positions of other logs bring no membership."""
        address = parse_address(text)
        if address is None or not address.is_channel:
            return None
        try:
            ref = await self._node.channels.resolve(address, peer.actor, create=False)
            self._node.check(peer, JOIN, ref)
        except BusError:
            return None
        if ref.id in peer.memberships or not self._members.room_for_one_more(peer):
            return None
        self._members.remember(peer, ref)
        return ref

    async def _places(
        self, peer: Peer, streams: Iterable[Stream], positions: Positions
    ) -> tuple[dict[Stream, dict[str, Any]], list[tuple[Stream, int]]]:
        """What is told of each log that is heard, as far as it is known yet, and from where those with a position go on."""
        told: dict[Stream, dict[str, Any]] = {}
        starts: list[tuple[Stream, int]] = []
        for stream in streams:
            address = Address(stream.room, stream.channel)
            row = told[stream] = {}
            position = positions.get(str(address))
            if position is None:
                continue
            start, recovered, left = await self._members.recover(peer, stream, position["seq"], position.get("epoch"))
            row["recovered"] = recovered
            if left is not None:
                row["first_seq"] = left
            starts.append((stream, max(start, peer.inbox_floor) if address.is_inbox else start))
        return told, starts


def _initial(wanted: Registration) -> Address:
    """The initial pair. Raises ``BusError`` INVALID_NAME."""
    default = default_address()
    address = resolve(wanted.room, wanted.channel, default)
    if address.is_whole_room:
        address = Address(address.room, default.channel)
    if not address.is_channel:
        raise BusError("INVALID_NAME", f"{address} cannot be the initial channel.", [{"field": "room"}])
    return address


def _positions(wanted: Registration, initial: Address) -> Positions:
    """Where the client says that it was. Raises ``BusError`` VALIDATION_ERROR for a time that is none."""
    positions = dict(wanted.resume.positions) if wanted.resume else {}
    if wanted.since is not None:
        positions.setdefault(str(initial), {"seq": wanted.since, "epoch": wanted.epoch})
    for position in positions.values():
        check_since(position["seq"])
    return positions


def _still_heard(peer: Peer, streams: Iterable[Stream], entered: Iterable[ChannelRef]) -> list[Stream]:
    """The streams without those whose membership was withdrawn since it began, and without the logs of rooms so left."""
    withdrawn = {ref.id for ref in entered} - peer.memberships.keys()
    return [
        stream
        for stream in streams
        if stream.id not in withdrawn
        and (stream.channel != WHOLE or stream.room in peer.rooms or stream.room == EVERYONE.room)
    ]
