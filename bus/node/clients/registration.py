"""How a connection becomes a client (contract §3): its identity, its first channels, and what it missed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from django.db import Error as DatabaseError

from ... import signals
from ...auth.permissions import JOIN, Actor
from ...conf.settings import default_address
from ...directory.channels import ChannelRef, inbox_ref
from ...models import new_epoch
from ...protocol import frames
from ...protocol.errors import NOT_ALLOWED, SLOW, TAKEN_OVER, BusError, Closing, ErrorCode
from ...protocol.names import EVERYONE, WHOLE, Address, inbox, is_made_up, parse_address
from ...protocol.registration import Registration
from ...protocol.routing import resolve
from ...protocol.state import State
from ...realtime.hub import Stream
from ...services.claims import Claim, Claimed, first_epoch, resume_token
from ..client import ClientState
from ..delivery.replay import check_since
from ..delivery.streams import Vanished
from ..threads import unavailable

if TYPE_CHECKING:
    from ..node import Node

#: Where a client that comes back was in each log: ``{address: {epoch, seq}}``.
Positions = dict[str, dict[str, Any]]
#: The streams that a client will hear, each with what it was found by.
Heard = dict[Stream, ChannelRef]


class Registrations:
    """Makes the connections of a node its clients."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._members = node.members

    async def register(self, client: ClientState, wanted: Registration, actor: Actor) -> None:
        """Give ``client`` its identity, initial pair and first memberships, and send ``registered`` and what it missed.

        Raises ``BusError`` for what cannot be, ``Closing`` for what ends the connection (an id in use).
        """
        client_id = wanted.client_id or client.client_id
        client.actor = msgspec.structs.replace(actor, client_id=client_id, client_type=wanted.client_type)
        client.allowed.clear()
        initial = _initial(wanted)
        positions = _positions(wanted, initial)
        for _ in range(3):
            ref, heard = await self._initial_streams(client, initial)
            claimed = await self._claim(client, wanted, client_id, ref, heard)
            if claimed is not None:
                break
            self._members.vanished(ref)
        else:
            raise unavailable()
        client.initial = initial
        self._take_identity(client, wanted, client_id, claimed)
        try:
            await self._enter(client, ref, heard, claimed, positions)
        except (BusError, DatabaseError):
            # Half registered is nothing that a client could go on from; coming back with its positions is.
            raise Closing(SLOW, unavailable()) from None
        signals.client_connected.send_robust(
            ClientState,
            client=client.card(),
            room=initial.room,
            channel=initial.channel,
            kind=client.kind,
            private=ref.private,
        )

    async def _initial_streams(self, client: ClientState, initial: Address) -> tuple[ChannelRef, Heard]:
        """The initial channel, and the streams of it, of its room and of everybody."""
        node, members = self._node, self._members
        for _ in range(3):
            ref = await node.channels.resolve(initial, client.actor)
            await members.check(client, ref)
            everyone = await node.channels.resolve(EVERYONE, client.actor)
            refs = [ref, await members.room_log(ref), everyone]
            try:
                return ref, dict(zip(await members.open(refs), refs, strict=True))
            except Vanished:
                continue
        raise unavailable()

    async def _claim(
        self, client: ClientState, wanted: Registration, client_id: str, ref: ChannelRef, heard: Heard
    ) -> Claimed | None:
        """Write down whose the id is from now on, with its first membership; None when its channel is gone."""
        waiting = True
        # What the socket has for us by now may be its end: a frame that waited for long is of a client that went elsewhere.
        for _ in range(2):
            await asyncio.sleep(0)
        if is_made_up(client_id):
            everyones = next(stream.epoch for stream, found_by in heard.items() if found_by.address.is_everyone)
            token, epoch = resume_token(client_id, client.actor.principal), first_epoch(client_id, everyones)
        else:
            token, epoch = secrets.token_urlsafe(18), new_epoch()
        claim = Claim(
            node_id=self._node.id,
            connection_id=client.connection_id,
            client_id=client_id,
            generated=wanted.client_id is None,
            client_type=wanted.client_type,
            screen_name=wanted.screen_name or "",
            avatar=wanted.avatar or "",
            personality=wanted.personality,
            role=client.actor.role,
            principal=client.actor.principal,
            resume_token=wanted.resume.token if wanted.resume else None,
            new_token=token,
            new_epoch=epoch,
            channel_id=ref.id,
            last_activity=client.last_active(),
            most=self._node.admission.most_of_all(client),
            wanted=lambda: (
                waiting and not client.writer.gone() and client.connection_id in self._node.clients.by_connection
            ),
        )
        client.step(State.CLAIMING)
        try:
            claimed: Claimed | None = await self._members.write(claim)
        except BusError:
            self._members.vanished(ref)  # Should its channel be what is missing, the next try finds out.
            raise
        finally:
            waiting = False
        return claimed

    def _take_identity(self, client: ClientState, wanted: Registration, client_id: str, claimed: Claimed) -> None:
        """What the database says is so in this process too, also for an older connection of the client.

        Raises ``Closing`` 4410 where a newer connection has the id by now: answers may cross.
        """
        node = self._node
        older = node.clients.by_id.get(client_id)
        if older is not None and older is not client and older.order > claimed.order:
            raise Closing(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
        client.order = claimed.order
        client.client_id, client.client_type = client_id, wanted.client_type
        client.screen_name, client.avatar = wanted.screen_name, wanted.avatar
        if wanted.personality:
            client.personality = wanted.personality
        client.resume_token = claimed.token
        client.inbox_floor = claimed.inbox_floor
        node.clients.by_id[client_id] = client
        if older is not None and older is not client:
            older.drop(TAKEN_OVER, BusError(ErrorCode.TAKEN_OVER))
        client.step(State.JOINING)
        node.admission.registered(client)

    async def _enter(
        self, client: ClientState, ref: ChannelRef, heard: Heard, claimed: Claimed, positions: Positions
    ) -> None:
        """Begin the memberships, and answer with where each of them begins."""
        node, members = self._node, self._members
        if not node.may(client, JOIN, ref):
            # Withdrawn while the claim was written: there was no membership yet to take it away from.
            raise Closing(NOT_ALLOWED, BusError(ErrorCode.REVOKED))
        members.remember(client, ref)
        entered = [(ref, claimed.participants)]
        heard |= await self._own_inbox(client, claimed)
        for more, participants in await self._rejoin_all(client, positions):
            refs = [more, await members.room_log(more)]
            try:
                opened = await members.open(refs)
            except Vanished:
                members.forget(client, more)
                continue
            entered.append((more, participants))
            heard |= dict(zip(opened, refs, strict=True))
        told, starts = await self._places(client, heard, positions)
        client.step(State.REGISTERED)
        listening = _still_heard(client, heard, [here for here, _ in entered])
        starts = [(stream, start) for stream, start in starts if stream in listening]
        # From here to the first `replay` nothing waits: the heads in the answer are those the memberships begin at.
        channels = {
            f"{stream.room}:{stream.channel}": {**told[stream], "epoch": stream.epoch, "seq": stream.head}
            for stream in listening
        }
        own = str(inbox(client.client_id))
        channels.setdefault(own, _unwritten(claimed.inbox_epoch, positions.get(own)))
        if claimed.withheld:
            channels[own]["withheld"] = True
        client.writer.send(
            frames.system(
                "registered",
                client_id=client.client_id,
                client_type=client.client_type,
                role=client.actor.role,
                room=ref.address.room,
                channel=ref.address.channel,
                channels=channels,
                resume_token=client.resume_token,
                participants=claimed.participants,
            )
        )
        replayed = {stream for stream, _ in starts}
        for stream in listening:
            if stream not in replayed:
                node.hub.add(stream, client)
        client.writer.flush()
        for here, participants in entered:
            node.notices.joined(client, here, participants)
        members.catch_up(client, starts)

    async def _own_inbox(self, client: ClientState, claimed: Claimed) -> Heard:
        """The stream of the client's inbox, if anybody ever wrote to it."""
        if claimed.inbox is None:
            return {}
        inbox_id, _, epoch = claimed.inbox
        ref = inbox_ref(inbox_id, client.client_id, epoch)
        streams = await self._members.open([ref])
        client.inbox_id = inbox_id
        return dict.fromkeys(streams, ref)

    async def _rejoin_all(self, client: ClientState, positions: Iterable[str]) -> list[tuple[ChannelRef, int]]:
        """Make ``client`` a member again of the channels among ``positions``; each with its number of participants.

        Raises ``BusError`` UNAVAILABLE where the database cannot say whether a channel is there, or for whom.
        """
        members = self._members
        found = [ref for text in positions if (ref := await self._find(client, text)) is not None]
        if not all(self._node.may(client, JOIN, ref) for ref in found):
            await members.hear_of_grants()
        wanted = [ref for ref in found if self._node.may(client, JOIN, ref) and self._rejoin(client, ref)]
        counts = await asyncio.gather(*(members.write_join(client, ref) for ref in wanted))
        joined = []
        for ref, count in zip(wanted, counts, strict=True):
            if count is None:
                members.vanished(ref)
                members.forget(client, ref)
            else:
                joined.append((ref, count))
        return joined

    async def _find(self, client: ClientState, text: str) -> ChannelRef | None:
        """A channel that a client that comes back was in; positions of other logs bring no membership."""
        address = parse_address(text)
        if address is None or not address.is_channel:
            return None
        try:
            return await self._node.channels.resolve(address, client.actor, create=False)
        except BusError as problem:
            if problem.code == ErrorCode.UNAVAILABLE:
                raise
            return None

    def _rejoin(self, client: ClientState, ref: ChannelRef) -> bool:
        """Note that a client that comes back is in a channel again; False where it is already, or is in too many."""
        if ref.id in client.memberships or not self._members.room_for_one_more(client):
            return False
        self._members.remember(client, ref)
        return True

    async def _places(
        self, client: ClientState, heard: Heard, positions: Positions
    ) -> tuple[dict[Stream, dict[str, Any]], list[tuple[Stream, int]]]:
        """What is told of each log that is heard, as far as it is known yet, and from where those with a position go on."""
        told: dict[Stream, dict[str, Any]] = {}
        starts: list[tuple[Stream, int]] = []
        for stream, ref in heard.items():
            row = told[stream] = {}
            position = positions.get(str(ref.address))
            if position is None:
                continue
            place = await self._members.recover(client, ref, stream, position["seq"], position.get("epoch"))
            start, row["recovered"], left = place
            if left is not None:
                row["first_seq"] = left
            starts.append((stream, start))
        return told, starts


def _initial(wanted: Registration) -> Address:
    """The initial pair. Raises ``BusError`` INVALID_NAME."""
    default = default_address()
    address = resolve(wanted.room, wanted.channel, default)
    if address.is_whole_room:
        address = Address(address.room, default.channel)
    if not address.is_channel:
        raise BusError(ErrorCode.INVALID_NAME, f"{address} cannot be the initial channel.", [{"field": "room"}])
    return address


def _positions(wanted: Registration, initial: Address) -> Positions:
    """Where the client says that it was. Raises ``BusError`` VALIDATION_ERROR for a time that is none."""
    positions = dict(wanted.resume.positions) if wanted.resume else {}
    if wanted.since is not None:
        positions.setdefault(str(initial), {"seq": wanted.since, "epoch": wanted.epoch})
    for position in positions.values():
        check_since(position["seq"])
    return positions


def _unwritten(epoch: str, position: dict[str, Any] | None) -> dict[str, Any]:
    """What is told of an inbox that nobody wrote to: who has seen something in it saw it in another one."""
    told: dict[str, Any] = {"epoch": epoch, "seq": 0}
    if position is not None:
        told["recovered"] = position["seq"] == 0 and position.get("epoch") in (epoch, "", None)
        if not told["recovered"]:
            told["first_seq"] = 1
    return told


def _still_heard(client: ClientState, streams: Iterable[Stream], entered: Iterable[ChannelRef]) -> list[Stream]:
    """The streams without those whose membership was withdrawn since it began, and without the logs of rooms so left."""
    withdrawn = {ref.id for ref in entered} - client.memberships.keys()
    return [
        stream
        for stream in streams
        if stream.id not in withdrawn
        and (stream.channel != WHOLE or stream.room in client.rooms or stream.room == EVERYONE.room)
    ]
