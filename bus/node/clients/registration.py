"""How a connection becomes a client: it gets its identity, its first channels, and the messages it missed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec
from django.db import Error as DatabaseError

from ... import signals
from ...auth.permissions import SYSTEM, Actor
from ...conf.settings import default_address
from ...directory.channels import ChannelRef, inbox_ref
from ...protocol import frames
from ...protocol.errors import NOT_ALLOWED, SLOW, TOO_MANY, BusError, Closing, ErrorCode
from ...protocol.names import EVERYONE, WHOLE, Address, inbox, whole_room
from ...protocol.registration import MARK, Registration
from ...protocol.routing import resolve
from ...protocol.state import State
from ...realtime.hub import Stream
from ...services.claims import Claimed
from ..client import ClientState
from ..delivery.channels import Channels
from ..delivery.replay import Replays, Start
from ..delivery.streams import Streams, Vanished
from ..marks import Marks
from ..threads import unavailable
from .identities import Identities
from .memberships import Memberships
from .presence import Notices
from .resumption import Entered, Positions, Received, Resumptions, positions_of
from .rights import Rights

#: How often a registration is tried again when its initial channel is deleted meanwhile.
TRIES = 3


class Registrations:
    """Makes the connections of a node its clients."""

    def __init__(
        self,
        channels: Channels,
        streams: Streams,
        replays: Replays,
        marks: Marks,
        rights: Rights,
        memberships: Memberships,
        notices: Notices,
        identities: Identities,
        resumptions: Resumptions,
    ) -> None:
        self._channels = channels
        self._streams = streams
        self._replays = replays
        self._marks = marks
        self._rights = rights
        self._memberships = memberships
        self._notices = notices
        self._identities = identities
        self._resumptions = resumptions

    async def register(self, client: ClientState, wanted: Registration, actor: Actor) -> None:
        """Give ``client`` its identity, initial channel and memberships; send ``registered`` and the messages it missed.

        Raises ``BusError`` for a request that cannot be met, and ``Closing`` for one that ends the connection.
        """
        client_id = wanted.client_id or client.client_id
        client.actor = msgspec.structs.replace(actor, client_id=client_id, client_type=wanted.client_type)
        client.allowed.clear()
        initial = _initial(wanted)
        positions = positions_of(wanted, initial)
        for _ in range(TRIES):
            ref, received = await self._initial_streams(client, initial)
            everyones = next(stream.epoch for stream, found in received.items() if found.address.is_everyone)
            try:
                claimed = await self._identities.claim(client, wanted, client_id, ref.id, everyones)
            except BusError:
                self._channels.forget(ref.address)  # Should the channel be what is missing, the next try finds out.
                raise
            if claimed is not None:
                break
            self._channels.forget(ref.address)
        else:
            raise unavailable()
        client.initial = initial
        self._identities.take(client, wanted, client_id, claimed)
        try:
            await self._enter(client, ref, received, claimed, positions, at_marks=wanted.since == MARK)
        except (BusError, DatabaseError):
            # A client cannot continue from half a registration. It can come back with its positions.
            raise Closing(SLOW, unavailable()) from None
        signals.client_connected.send_robust(
            ClientState,
            client=client.card(),
            room=initial.room,
            channel=initial.channel,
            kind=client.kind,
            private=ref.private,
        )

    async def _initial_streams(self, client: ClientState, initial: Address) -> tuple[ChannelRef, Received]:
        """Return the initial channel, and the streams of it, of its room and of everybody."""
        ready = self._ready(client, initial)
        if ready is not None:
            return ready
        for _ in range(TRIES):
            ref = await self._channels.resolve(initial, client.actor)
            await self._rights.check_join(client, ref)
            everyone = await self._channels.resolve(EVERYONE, client.actor)
            refs = [ref, await self._channels.room_log(ref), everyone]
            try:
                return ref, dict(zip(await self._streams.open(refs), refs, strict=True))
            except Vanished:
                continue
        raise unavailable()

    def _ready(self, client: ClientState, initial: Address) -> tuple[ChannelRef, Received] | None:
        """Return what :meth:`_initial_streams` does, if all of it is known here and the client may join."""
        known = self._channels.known
        ref, room_log, everyone = known(initial), known(whole_room(initial.room)), known(EVERYONE)
        if ref is None or room_log is None or everyone is None or ref.private or not self._rights.may_join(client, ref):
            return None
        refs = (ref, room_log, everyone)
        streams = self._streams.ready(refs)
        return (ref, dict(zip(streams, refs, strict=True))) if len(streams) == len(refs) else None

    async def _enter(
        self,
        client: ClientState,
        ref: ChannelRef,
        received: Received,
        claimed: Claimed,
        positions: Positions,
        *,
        at_marks: bool,
    ) -> None:
        """Begin the memberships, and answer with the position at which each of them begins."""
        if not self._rights.may_join(client, ref):
            # The right was withdrawn while the claim was written. Nobody has seen the membership yet.
            raise Closing(NOT_ALLOWED, BusError(ErrorCode.REVOKED))
        self._memberships.add(client, ref)
        self._rights.recheck_if_changed(client, ref)
        entered = [Entered(ref, claimed.participants)]
        begun: Positions = {}
        starts: dict[Stream, Start] = {}
        if claimed.inbox is not None or at_marks:
            received |= await self._own_inbox(client, claimed, made=at_marks)
        if at_marks:
            begun = await self._begin_at_marks(client, received, positions)
            positions = {**positions, **begun}
        if positions:
            rejoined, more = await self._resumptions.rejoin(client, positions)
            entered += rejoined
            received |= more
            starts = await self._resumptions.starts(client, received, positions)
        client.step(State.REGISTERED)
        listening = _still_allowed(client, received, [channel.ref for channel in entered])
        # Nothing waits from here to the catching up: the heads in the answer are those at which the memberships begin.
        channels = {
            (address := f"{stream.room}:{stream.channel}"): _told(stream, starts.get(stream), at_mark=address in begun)
            for stream in listening
        }
        own = str(inbox(client.client_id))
        channels.setdefault(own, _unwritten(claimed.inbox_epoch, positions.get(own)))
        if claimed.withheld:
            channels[own]["withheld"] = True
        marks: dict[str, Any] = {"marks": {**claimed.marks, **begun}} if claimed.marks or begun else {}
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
                participants=None if ref.uncounted else claimed.participants,
                **marks,
            )
        )
        for stream in listening:
            if stream not in starts:
                self._streams.hub.add(stream, client, parts=client.wants_parts(stream.id, stream.room))
        client.writer.flush()
        for channel in entered:
            self._notices.joined(client, channel.ref, channel.participants)
        if starts:
            late = {stream: starts[stream].position for stream in listening if stream in starts}
            self._replays.catch_up(client, late)

    async def _own_inbox(self, client: ClientState, claimed: Claimed, *, made: bool) -> Received:
        """Return the stream of the client's inbox, if it has received any message yet, or has to be ``made``."""
        if claimed.inbox is not None:
            ref = inbox_ref(claimed.inbox.id, client.client_id, claimed.inbox.epoch)
        elif made:
            ref = await self._channels.resolve(inbox(client.client_id), SYSTEM)
        else:
            return {}
        streams = await self._streams.open([ref])
        client.inbox_id = ref.id
        return dict.fromkeys(streams, ref)

    async def _begin_at_marks(self, client: ClientState, received: Received, positions: Positions) -> Positions:
        """Return the positions of the client's marks in its initial channel and its inbox, where it names none itself.

        Raises ``Closing`` 4429 for a client with too many marks, and ``BusError`` UNAVAILABLE.
        """
        own = (client.initial, inbox(client.client_id))
        refs = [ref for ref in received.values() if ref.address in own and str(ref.address) not in positions]
        try:
            marked = await asyncio.gather(*(self._marks.begin(client, ref) for ref in refs))
        except BusError as problem:
            if problem.code == ErrorCode.LIMIT_REACHED:
                raise Closing(TOO_MANY, problem) from None
            raise
        return {
            str(ref.address): {"seq": mark.seq, "epoch": mark.epoch}
            for ref, mark in zip(refs, marked, strict=True)
            if mark is not None
        }


def _initial(wanted: Registration) -> Address:
    """Return the initial room and channel. Raises ``BusError`` INVALID_NAME."""
    default = default_address()
    address = resolve(wanted.room, wanted.channel, default)
    if address.is_whole_room:
        address = Address(address.room, default.channel)
    if not address.is_channel:
        raise BusError(ErrorCode.INVALID_NAME, f"{address} cannot be the initial channel.", [{"field": "room"}])
    return address


def _told(stream: Stream, start: Start | None, *, at_mark: bool) -> dict[str, Any]:
    """Return what ``registered`` says of a log. ``at_mark`` says whether the client begins at its mark."""
    told: dict[str, Any] = {}
    if start is not None:
        if at_mark:
            told["mark"] = start.position
        told["recovered"] = start.recovered
        if start.first_seq is not None:
            told["first_seq"] = start.first_seq
    return {**told, "epoch": stream.epoch, "seq": stream.head}


def _unwritten(epoch: str, position: dict[str, Any] | None) -> dict[str, Any]:
    """Return what ``registered`` says of an inbox without messages. A position in it is of an earlier inbox."""
    told: dict[str, Any] = {"epoch": epoch, "seq": 0}
    if position is not None:
        told["recovered"] = position["seq"] == 0 and position.get("epoch") in (epoch, "", None)
        if not told["recovered"]:
            told["first_seq"] = 1
    return told


def _still_allowed(client: ClientState, streams: Iterable[Stream], entered: Iterable[ChannelRef]) -> list[Stream]:
    """Leave out the streams whose membership was withdrawn since it began, and the logs of rooms so left."""
    withdrawn = {ref.id for ref in entered} - client.memberships.keys()
    return [
        stream
        for stream in streams
        if stream.id not in withdrawn
        and (stream.channel != WHOLE or stream.room in client.rooms or stream.room == EVERYONE.room)
    ]
