"""Observers: connections that follow a whole room.

An observer gets the messages of each channel of the room that it may join, also of the channels to come. It is no member:
presence does not show it, and the database does not know of it. The streams have it as a member, once, even where it has
joined the channel too.

A new channel comes as a notification, or is found by its id, whichever is first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import Error as DatabaseError

from ...auth.permissions import JOIN
from ...directory.channels import ChannelRef
from ...protocol import frames
from ...protocol.errors import BusError, ErrorCode
from ...protocol.names import INBOX_ROOM, WHOLE, Address, is_name
from ...protocol.routing import invalid_name
from ...realtime.hub import Hub, Stream
from ...services import observing
from ...services.observing import Found
from ..client import ClientState
from ..delivery.replay import Replays, Start
from ..delivery.streams import Streams, Vanished
from ..permissions import Permissions
from ..runtime import Runtime

logger = logging.getLogger("arqonbus.node")

#: Rooms that one connection may follow. Each costs a little even without a channel.
ROOMS = 20
#: Seconds between looks for channels that no notification announced.
LOOK = 1.0
#: How many ids before the newest are looked at again. A transaction that took its id early may commit late.
OVERLAP = 200
#: Ended channels that an observer remembers. Such a channel goes on at its head when the right to it comes back.
REMEMBERED = 10_000
#: How often a follow is tried again when channels are deleted meanwhile.
TRIES = 5


class FollowedLog(msgspec.Struct):
    """Where a followed log begins for an observer: after ``seq``, or where it had been before."""

    epoch: str
    seq: int
    recovered: bool | None = None
    first_seq: int | None = None
    #: Whether the channel came after the positions, so that it begins at its first message.
    new: bool = False


class Followed(msgspec.Struct):
    """The answer to a follow, before the missed messages are sent."""

    room: str
    #: By name of the channel; ``*`` is the log of the whole room.
    channels: dict[str, FollowedLog]
    truncated: bool
    #: The positions after which missed messages follow.
    starts: dict[Stream, int]


def _is_of(stream: Stream, place: tuple[int, str | None] | None) -> bool:
    """Return whether a position is one of this log, and not of a former log with its name."""
    return place is not None and place[1] in (None, stream.epoch)


class Observing:
    """One room of one observer."""

    __slots__ = ("newest", "seen", "since", "truncated")

    def __init__(self, newest: int, since: datetime) -> None:
        #: The newest channel when it began, and a time before which channels are surely older.
        self.newest = newest
        self.since = since
        #: The channels that it got messages of, also those that have ended.
        self.seen: set[int] = set()
        #: Whether there are more channels than it may follow.
        self.truncated = False

    def is_new(self, found: Found) -> bool:
        """Return whether the channel came into being while the room was followed, so that its first message is due, too."""
        ref_id = found.ref.id
        return ref_id not in self.seen and (ref_id > self.newest or found.created_at > self.since)

    def note(self, channel_id: int) -> None:
        """Note a channel that begins."""
        if len(self.seen) >= REMEMBERED:
            self.seen.clear()
        self.seen.add(channel_id)


class Observers:
    """The observers of this process."""

    def __init__(
        self, runtime: Runtime, hub: Hub, streams: Streams, replays: Replays, permissions: Permissions
    ) -> None:
        self._runtime = runtime
        self._hub = hub
        self._streams = streams
        self._replays = replays
        self._permissions = permissions
        self._rooms: dict[str, dict[ClientState, Observing]] = {}
        self._followed: dict[ClientState, dict[str, Observing]] = {}
        # The newest channel that was looked at, and those shortly before it that were.
        self._latest = 0
        self._handled: set[int] = set()
        # What :meth:`_work` has to do: look for new channels, and scan these rooms again for these observers.
        self._to_find = False
        self._to_scan: dict[tuple[ClientState, str], None] = {}
        self._task: asyncio.Task[None] | None = None

    # --- the commands -----------------------------------------------------------------------------------------------------

    async def follow(self, client: ClientState, room: str, positions: Mapping[str, tuple[int, str | None]]) -> Followed:
        """Let ``client`` follow a room. The caller sends the answer, then calls :meth:`begin`.

        ``positions`` has where the client was: each a seq and an epoch, by name of the channel. A channel that came after them
        begins at its first message, and another one without a position now. A channel that it receives already keeps its place.

        Raises ``BusError`` INVALID_NAME, LIMIT_REACHED, UNAVAILABLE, and the database's error.
        """
        if room == INBOX_ROOM or not is_name(room):
            raise invalid_name("room", room, f"{room[:80]!r} is not a room that you can follow.")
        self._check_limits(client, room)
        since = datetime.now(UTC) - observing.SLOW_COMMIT
        limit = self._places(client, room)
        scan = await self._runtime.ask(observing.joinable, client.actor, room, limit)
        if not self._rooms:
            self._latest = scan.newest
        with ExitStack() as kept:
            opened = await self._open([found.ref for found in scan.found])
            for stream in opened:
                kept.enter_context(self._streams.kept(stream))
            known = {ref.id for stream, ref in opened.items() if _is_of(stream, positions.get(ref.address.channel))}
            new = observing.came_later(scan.found, positions, known)
            starts = await self._starts(client, opened, positions, new)
            # Nothing waits from here to the answer: it has the places at which the logs begin.
            followed = self._register(client, room, Observing(scan.newest, since), opened, starts)
        for ref in opened.values():
            if ref.id in new and ref.address.channel in followed.channels:
                followed.channels[ref.address.channel].new = True
        followed.truncated |= scan.truncated
        self._followed[client][room].truncated = followed.truncated
        # What changed since the rows were read.
        self._scan_again(client, room)
        return followed

    def begin(self, client: ClientState, followed: Followed) -> None:
        """Send an observer the messages it missed, then the later ones."""
        starts = {stream: position for stream, position in followed.starts.items() if stream.id in client.followed}
        self._replays.catch_up(client, starts)

    def unfollow(self, client: ClientState, room: str) -> list[str]:
        """End the following of a room. Return the rooms that are left. Raises ``BusError`` NOT_A_MEMBER."""
        if self._held(client, room) is None:
            raise BusError(ErrorCode.NOT_A_MEMBER, f"You do not follow the room {room[:80]}.", [{"room": room[:80]}])
        for ref in [ref for ref in client.followed.values() if ref.address.room == room]:
            self._remove(client, ref)
        self._forget(client, room)
        return self.rooms_of(client)

    def rooms_of(self, client: ClientState) -> list[str]:
        """Return the rooms that ``client`` follows."""
        return sorted(self._followed.get(client, ()))

    def forget(self, client: ClientState) -> None:
        """End everything of a closed connection."""
        for ref in list(client.followed.values()):
            self._remove(client, ref)
        for room in self.rooms_of(client):
            self._forget(client, room)

    def _check_limits(self, client: ClientState, room: str) -> None:
        held = self.rooms_of(client)
        if room not in held and len(held) >= ROOMS:
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"You follow {ROOMS} rooms, which is the limit. Unfollow one first.",
                [{"limit": "followed_rooms", "value": ROOMS}],
            )
        if self._places(client, room) <= 0:
            limit = self._runtime.settings.followed
            raise BusError(
                ErrorCode.LIMIT_REACHED,
                f"You follow {limit} channels, which is the limit. Unfollow a room first.",
                [{"limit": "followed", "value": limit}],
            )

    def _places(self, client: ClientState, room: str) -> int:
        """Return how many channels of ``room`` the client may follow. Logs of whole rooms do not count."""
        others = sum(ref.address.is_channel and ref.address.room != room for ref in client.followed.values())
        return self._runtime.settings.followed - others

    async def _open(self, refs: Sequence[ChannelRef]) -> dict[Stream, ChannelRef]:
        """Return the streams of the channels, without those of channels that are deleted meanwhile."""
        for _ in range(TRIES):
            try:
                return dict(zip(await self._streams.open(refs), refs, strict=True))
            except Vanished as vanished:
                refs = [ref for ref in refs if ref.id != vanished.channel_id]
        found = await self._runtime.run_watcher(observing.by_ids, [ref.id for ref in refs])
        refs = [one.ref for one in found]
        return dict(zip(await self._streams.open(refs), refs, strict=True))

    async def _starts(
        self,
        client: ClientState,
        opened: Mapping[Stream, ChannelRef],
        positions: Mapping[str, tuple[int, str | None]],
        new: Collection[int],
    ) -> dict[Stream, Start]:
        wanted = {
            stream: ref
            for stream, ref in opened.items()
            if (ref.address.channel in positions or ref.id in new) and not self._receives(client, stream)
        }
        left = await self._replays.first_left(wanted)
        starts = {}
        for stream, ref in wanted.items():
            since, epoch = positions.get(ref.address.channel, (0, None))
            starts[stream] = await self._replays.start_for(client, ref, stream, since, epoch, left=left.get(stream.id))
        return starts

    def _register(
        self,
        client: ClientState,
        room: str,
        fresh: Observing,
        opened: Mapping[Stream, ChannelRef],
        starts: Mapping[Stream, Start],
    ) -> Followed:
        if client.writer.closed:
            raise BusError(ErrorCode.UNAVAILABLE, "The connection is closed.")
        held = self._rooms.setdefault(room, {}).setdefault(client, fresh)
        self._followed.setdefault(client, {})[room] = held
        followed = Followed(room, {}, False, {})
        for stream, ref in opened.items():
            if self._hub.streams.get(stream.id) is not stream or not self._may(client, ref):
                continue
            if ref.id not in client.followed and ref.address.is_channel and self._full(client):
                followed.truncated = True
                continue
            receives = self._receives(client, stream)
            self._note(client, held, ref)
            told = followed.channels[ref.address.channel] = FollowedLog(stream.epoch, stream.head)
            start = starts.get(stream)
            if receives:
                continue
            if start is None:
                self._hub.add(stream, client)
                told.seq = stream.head
                continue
            told.recovered, told.first_seq = start.recovered, start.first_seq
            followed.starts[stream] = start.position
        return followed

    # --- what an observer has -----------------------------------------------------------------------------------------------

    def _may(self, client: ClientState, ref: ChannelRef) -> bool:
        """Return whether the client may have the log. With any channel of a room comes the log of the whole room."""
        if self._permissions.may(client, JOIN, ref):
            return True
        return ref.address.is_whole_room and any(
            other.address.room == ref.address.room and other.id != ref.id for other in client.followed.values()
        )

    def _held(self, client: ClientState, room: str) -> Observing | None:
        return self._followed.get(client, {}).get(room)

    def _receives(self, client: ClientState, stream: Stream) -> bool:
        """Return whether the client gets the log's messages already, or catches up with them."""
        return client in stream.members or stream.id in client.replays

    def _note(self, client: ClientState, held: Observing, ref: ChannelRef) -> None:
        client.followed[ref.id] = ref
        held.note(ref.id)

    def _remove(self, client: ClientState, ref: ChannelRef) -> None:
        """End one log of an observer. What it has as a member goes on."""
        client.followed.pop(ref.id, None)
        if client.is_member_of(ref):
            return
        client.replays.pop(ref.id, None)
        stream = self._hub.stream(ref.id)
        if stream is not None:
            self._hub.remove(stream, client)

    def _forget(self, client: ClientState, room: str) -> None:
        del self._rooms[room][client], self._followed[client][room]
        if not self._rooms[room]:
            del self._rooms[room]
        if not self._followed[client]:
            del self._followed[client]
        self._to_scan.pop((client, room), None)

    def _end(self, client: ClientState, ref: ChannelRef, reason: str) -> None:
        """End one log of an observer and tell it why."""
        self._remove(client, ref)
        place = {"room": ref.address.room, "channel": ref.address.channel}
        self._hub.send(client, frames.system("unfollowed", ref.address, **place, reason=reason))
        held = self._held(client, ref.address.room)
        if held is not None and held.truncated:
            self._scan_again(client, ref.address.room)

    def deleted(self, channel_id: int, room: str) -> None:
        """End a deleted log for all of its observers."""
        for client in list(self._rooms.get(room, ())):
            ref = client.followed.get(channel_id)
            if ref is not None:
                self._end(client, ref, "DELETED")
                # It may have been the last channel with which the log of the room came.
                logs = [other for other in client.followed.values() if other.address == Address(room, WHOLE)]
                for log in logs:
                    if not self._may(client, log):
                        self._end(client, log, ErrorCode.REVOKED)

    async def hold(self, client: ClientState, rooms: Collection[str]) -> None:
        """End what an observer may not have any more, and begin what it may have now. ``rooms`` have changed.

        Raises the database's error.
        """
        if client not in self._followed:
            return
        changed = self._followed[client].keys() & set(rooms)
        private = await self._runtime.run(observing.privacy, changed) if changed else {}
        for ref in sorted(client.followed.values(), key=lambda ref: ref.address.is_whole_room):
            now = private.get(ref.address.room, ref.private)
            if now != ref.private:
                ref = msgspec.structs.replace(ref, private=now)
                client.followed[ref.id] = ref
            if not self._may(client, ref):
                self._end(client, ref, ErrorCode.REVOKED)
        for room in self.rooms_of(client):
            self._scan_again(client, room)

    # --- channels to come -----------------------------------------------------------------------------------------------------

    def changed(self, room: str) -> None:
        """Look for new channels soon, if anybody follows the room."""
        if room in self._rooms:
            self._to_find = True
            self._wake()

    async def look(self) -> float:
        """Find channels without a notification. Return the seconds until the next look."""
        if self._rooms:
            self._to_find = True
            self._wake()
        return LOOK

    def stop(self) -> None:
        """Cancel the work that goes on."""
        if self._task is not None:
            self._task.cancel()

    def _scan_again(self, client: ClientState, room: str) -> None:
        self._to_scan[(client, room)] = None
        self._wake()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._runtime.loop.create_task(self._work())

    async def _work(self) -> None:
        while self._to_find or self._to_scan:
            find, self._to_find = self._to_find, False
            scans, self._to_scan = self._to_scan, {}
            try:
                if find:
                    await self._find()
                while scans:
                    client, room = next(iter(scans))
                    await self._scan(client, room)
                    del scans[(client, room)]
            except Exception as problem:
                if isinstance(problem, DatabaseError) or getattr(problem, "code", "") == ErrorCode.UNAVAILABLE:
                    logger.warning("new channels wait for the database: %s", problem, extra={"event": "follow_waits"})
                else:
                    logger.exception("the look for new channels failed", extra={"event": "internal_error"})
                self._to_find |= find
                self._to_scan = {**scans, **self._to_scan}
                await asyncio.sleep(0.5)

    async def _find(self) -> None:
        """Offer the new channels of followed rooms to their observers."""
        rows = await self._runtime.run_watcher(observing.made_after, max(self._latest - OVERLAP, 0))
        new = [channel_id for channel_id, room in rows if room in self._rooms and channel_id not in self._handled]
        for start in range(0, len(new), observing.CHUNK):
            for found in await self._runtime.run_watcher(observing.by_ids, new[start : start + observing.CHUNK]):
                for client in list(self._rooms.get(found.ref.address.room, ())):
                    await self._offer(client, found)
        self._latest = max([self._latest, *(channel_id for channel_id, _ in rows)])
        self._handled = {channel_id for channel_id in {*self._handled, *new} if channel_id > self._latest - OVERLAP}

    async def _scan(self, client: ClientState, room: str) -> None:
        """Offer an observer all channels of a room."""
        held = self._held(client, room)
        if held is None:
            return
        scan = await self._runtime.ask(observing.joinable, client.actor, room, self._places(client, room))
        if scan.truncated:
            self._say_truncated(client, held, room)
        held.truncated = scan.truncated
        for found in scan.found:
            await self._offer(client, found)

    async def _offer(self, client: ClientState, found: Found) -> None:
        """Begin a channel for an observer that may have it and has it not. Raises ``BusError`` UNAVAILABLE."""
        ref = found.ref
        held = self._held(client, ref.address.room)
        if held is None or ref.id in client.followed or not self._may(client, ref):
            return
        if ref.address.is_channel and self._full(client):
            self._say_truncated(client, held, ref.address.room)
            return
        try:
            (stream,) = await self._streams.open([ref])
        except Vanished:
            return
        with self._streams.kept(stream):
            start = await self._replays.start_for(client, ref, stream, 0, None) if held.is_new(found) else None
            if (
                self._held(client, ref.address.room) is not held
                or client.writer.closed
                or ref.id in client.followed
                or self._hub.streams.get(ref.id) is not stream
                or not self._may(client, ref)
                or (ref.address.is_channel and self._full(client))
            ):
                return
            self._attach(client, held, ref, stream, start)

    def _attach(
        self, client: ClientState, held: Observing, ref: ChannelRef, stream: Stream, start: Start | None
    ) -> None:
        self._hub.flush_stream(stream)
        receives = self._receives(client, stream)
        self._note(client, held, ref)
        if start is None or receives:
            start = Start(stream.head, True)
        told: dict[str, Any] = {"room": ref.address.room, "channel": ref.address.channel, "epoch": stream.epoch}
        told["seq"] = start.position
        if not start.recovered:
            told |= {"recovered": False, "first_seq": start.first_seq}
        self._hub.send(client, frames.system("followed", ref.address, **told))
        if not receives:
            self._replays.catch_up(client, {stream: start.position})
        log = Address(ref.address.room, WHOLE)
        if ref.address != log and not any(other.address == log for other in client.followed.values()):
            self._scan_again(client, ref.address.room)

    def _full(self, client: ClientState) -> bool:
        return sum(ref.address.is_channel for ref in client.followed.values()) >= self._runtime.settings.followed

    def _say_truncated(self, client: ClientState, held: Observing, room: str) -> None:
        if not held.truncated:
            held.truncated = True
            limit = self._runtime.settings.followed
            self._hub.send(client, frames.system("follow_truncated", Address(room, WHOLE), room=room, limit=limit))
