"""Joining and leaving channels, for the commands of a connection."""

from __future__ import annotations

from typing import Any

import msgspec

from ...directory.channels import ChannelRef
from ...protocol.errors import SLOW, BusError, Closing, ErrorCode
from ...protocol.names import Address
from ...protocol.registration import MARK
from ...realtime.hub import Hub, Stream
from ..client import ClientState
from ..delivery.channels import Channels
from ..delivery.replay import Latest, Replays, Start
from ..delivery.streams import Streams, Vanished
from ..marks import Marks
from ..runtime import Runtime
from ..threads import unavailable
from .memberships import Memberships
from .presence import Notices
from .presence_tables import PresenceTables
from .rights import Rights

#: How often a join is tried again when its channel is deleted meanwhile.
TRIES = 3


class Joined(msgspec.Struct):
    """The answer to a join, before the missed messages are sent."""

    ref: ChannelRef
    #: None where members do not learn how many they are.
    participants: int | None
    epoch: str
    seq: int
    recovered: bool | None
    first_seq: int | None
    #: The seq after which the messages follow; None when the connection is a member already.
    position: int | None
    created: bool = False
    #: Whether it was no member before. Then the other members get a notice.
    new: bool = True
    #: Position of each log that comes with the membership, the room's own too: ``{address: {epoch, seq}}``. A log that an
    #: earlier resume or join still replays is left out.
    positions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    #: The seq after which the messages follow, for a client that begins at its mark.
    mark: int | None = None
    #: The newest messages up to ``seq``, oldest first, if they were asked for and may be read.
    messages: list[bytes] | None = None

    def begin_after(self, latest: Latest) -> None:
        """Put the newest messages into the answer. The later ones follow it."""
        self.messages = latest.messages
        if self.position is not None:
            self.seq = self.position = latest.head
            self.positions[str(self.ref.address)] = {"epoch": self.epoch, "seq": latest.head}


class Members:
    """Makes clients members of channels, and ends that at their request."""

    def __init__(
        self,
        runtime: Runtime,
        channels: Channels,
        streams: Streams,
        replays: Replays,
        marks: Marks,
        rights: Rights,
        memberships: Memberships,
        tables: PresenceTables,
        notices: Notices,
    ) -> None:
        self._runtime = runtime
        self._channels = channels
        self._streams = streams
        self._hub: Hub = streams.hub
        self._replays = replays
        self._marks = marks
        self._rights = rights
        self._memberships = memberships
        self._tables = tables
        self._notices = notices

    async def join(
        self,
        client: ClientState,
        address: Address,
        since: int | str | None,
        epoch: str | None,
        *,
        parts: bool | None = None,
        last: int | None = None,
    ) -> Joined:
        """Make ``client`` a member. The caller sends the answer, then calls :meth:`follow`.

        ``since`` is a seq, an ISO time, or ``mark`` for the client's own mark.
        ``last`` is the number of the newest messages that the answer has.
        ``parts`` says whether it wants the parts of streamed messages; None leaves that as it is, and a new member wants them.

        Raises ``BusError`` INVALID_NAME, CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE.
        """
        if not address.is_channel:
            raise BusError(
                ErrorCode.INVALID_NAME, f"{address} is not a channel that you can join.", [{"field": "channel"}]
            )
        member = any(ref.address == address for ref in client.memberships.values())
        if not member and not self.has_room(client):
            limit = self._runtime.settings.memberships
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"You are in {limit} channels, which is the limit. Leave one first.",
                [{"limit": "memberships", "value": limit}],
            )
        for _ in range(TRIES):
            ref, created = await self._channels.ensure(address, client.actor)
            await self._rights.check_join(client, ref)
            try:
                joined = await self._join(client, ref, since, epoch, created=created, parts=parts, last=last)
            except Vanished:
                continue
            if joined is not None:
                return joined
            self._channels.forget(ref.address)
        raise unavailable()

    def has_room(self, client: ClientState) -> bool:
        """Return whether the connection may be a member of another channel, by the setting ``memberships``."""
        limit = self._runtime.settings.memberships
        return not limit or len(client.memberships) < limit or client.actor.admin

    async def _join(
        self,
        client: ClientState,
        ref: ChannelRef,
        since: int | str | None,
        epoch: str | None,
        *,
        created: bool,
        parts: bool | None,
        last: int | None,
    ) -> Joined | None:
        """Join a channel that was found. Return None when it was deleted meanwhile."""
        member = ref.id in client.memberships
        stream, room_log = await self._streams.open([ref, await self._channels.room_log(ref)])
        from_mark = since == MARK
        if from_mark:
            since, epoch = await self._mark(client, ref)
        start: Start | None = None
        if since is not None:
            start = await self._replays.start_for(client, ref, stream, since, epoch)
        latest = await self._replays.latest(client, ref, stream, last) if last is not None else None
        try:
            participants = await self._tables.join(client, ref)
        except BusError:
            if not member:
                self._tables.leave_later(client, ref)
            raise
        if participants is None:
            return None
        if not member:
            if not self._rights.may_join(client, ref):
                # The right was withdrawn meanwhile. Nobody has seen the membership yet.
                await self._tables.leave(client, ref)
                self._rights.require_join(client, ref)
            self._memberships.add(client, ref)
            self._rights.recheck_if_changed(client, ref)
            self._want_parts(client, ref, parts)
            if since is not None:
                self._stop(client, stream)
            if room_log.id not in client.replays:
                self._hub.add(room_log, client, parts=client.wants_parts(room_log.id, room_log.room))
        else:
            self._want_parts(client, ref, parts)
            if since is not None:
                self._stop(client, stream)
        # The answer names the heads of what was written to the socket before it.
        for open_stream in (stream, room_log):
            self._hub.flush_stream(open_stream)
        joined = self._joined(client, ref, stream, room_log, participants, start, member=member, created=created)
        joined.mark = joined.position if from_mark else None
        if latest is not None and last is not None:
            # What came while the membership was written.
            newer = stream.recent_after(latest.head)
            joined.begin_after(latest if newer is None else latest.with_newer(newer, last))
        return joined

    def _stop(self, client: ClientState, stream: Stream) -> None:
        """Deliver nothing of a log until the client has caught up with it from another place."""
        client.replays.pop(stream.id, None)
        self._hub.remove(stream, client)

    async def _mark(self, client: ClientState, ref: ChannelRef) -> tuple[int | None, str | None]:
        """Return the position of the client's mark. Nothing follows from before a join where there can be no mark."""
        marked = await self._marks.begin(client, ref)
        return (None, None) if marked is None else (marked.seq, marked.epoch)

    def _want_parts(self, client: ClientState, ref: ChannelRef, parts: bool | None) -> None:
        """Note whether a member wants parts. What it receives already changes at once."""
        if parts is None:
            return
        client.want_parts(ref.id, wanted=parts)
        here = [self._hub.stream(ref.id), *self._hub.of_room(ref.address.room)]
        for stream in here:
            if stream is not None and client in stream.members:
                wanted = client.wants_parts(stream.id, stream.room)
                if wanted == (stream.deaf is not None and client in stream.deaf):
                    self._hub.add(stream, client, parts=wanted)

    def _joined(
        self,
        client: ClientState,
        ref: ChannelRef,
        stream: Stream,
        room_log: Stream,
        participants: int,
        start: Start | None,
        *,
        member: bool,
        created: bool,
    ) -> Joined:
        # The client knows better where it stands in a log that it catches up with.
        delivered = [log for log in (stream, room_log) if log.id not in client.replays]
        receives = member or client in stream.members or stream.id in client.replays
        position = start.position if start is not None else None if receives else stream.head
        return Joined(
            ref,
            None if ref.uncounted else participants,
            stream.epoch,
            stream.head,
            start.recovered if start is not None else None,
            start.first_seq if start is not None else None,
            position,
            created,
            new=not member,
            positions={f"{log.room}:{log.channel}": {"epoch": log.epoch, "seq": log.head} for log in delivered},
        )

    async def follow(self, client: ClientState, joined: Joined) -> None:
        """Send a new member the messages it missed, then the later ones. A long replay goes on in the background.

        Raises ``Closing`` when the stream of the channel cannot be opened any more.
        """
        if joined.ref.id not in client.memberships:
            return
        if joined.position is not None:
            stream = self._hub.stream(joined.ref.id)
            if stream is None:
                try:
                    (stream,) = await self._streams.open([joined.ref])
                except BusError:
                    raise Closing(SLOW, unavailable()) from None
            self._replays.catch_up(client, {stream: joined.position})
        if joined.new:
            self._notices.joined(client, joined.ref, joined.participants or 0)

    async def leave(self, client: ClientState, address: Address) -> list[str]:
        """End a membership. Return the addresses of those that are left. Raises ``BusError`` NOT_A_MEMBER, UNAVAILABLE."""
        ref = next((ref for ref in client.memberships.values() if ref.address == address), None)
        if ref is None:
            raise BusError(ErrorCode.NOT_A_MEMBER, f"You are not a member of {address}.", [{"address": str(address)}])
        # After an error the client still is a member.
        participants = await self._tables.leave(client, ref)
        if ref.id in client.memberships:
            self._memberships.remove(client, ref)
            self._notices.left(client.card(), ref, participants)
        return sorted(str(ref.address) for ref in client.memberships.values())
