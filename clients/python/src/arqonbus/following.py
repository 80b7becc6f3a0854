"""Follow a room: the messages of all of its channels, also of those to come, without being a member."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from .errors import ArqonBusError, BusClosed, ConnectionLost, NotAMember, ServerError
from .heard import Heard
from .messages import INBOX_ROOM, WHOLE, Message, Position, new_id
from .publishing import Publishing
from .subscription import Subscription

if TYPE_CHECKING:
    from .bus import Bus

logger = logging.getLogger("arqonbus.client")

#: The place in a log that does not exist yet.
UNBORN = Position(0, "")


class RoomSubscription(Subscription):
    """Messages of all channels of a room that this client may join. :meth:`Bus.follow` returns it.

    Each channel has its own order. A channel that comes, or that this client may join from now on, begins by itself.
    """

    def __init__(
        self,
        bus: Bus,
        room: str,
        *,
        since: Mapping[str, Position] | None,
        presence: bool,
        echo: bool,
        fold: bool,
        buffer: int,
    ) -> None:
        super().__init__(bus, f"{room}:{WHOLE}", echo=echo, presence=presence, fold=fold, buffer=buffer)
        # Where to go on in the channels that are not followed now.
        self._from = dict(since or {})
        #: Whether the room has more channels than one connection may follow.
        self.truncated = False
        # The places after the messages that the reader took, by the name of the channel, and where the other ones began.
        self._places: dict[str, Position] = dict(self._from)

    @property
    def joinable(self) -> bool:
        """False: a room is followed and not joined."""
        return False

    @property
    def positions(self) -> dict[str, Position]:
        """The places after the last messages that the reader took, by the name of the channel.

        Each followed channel has a place, also before its first message. Store them, and pass them to ``since`` in another
        process to continue. A channel that came after them begins with its first message.
        """
        return dict(self._places)

    @property
    def channels(self) -> set[str]:
        """The names of the channels that are followed now. ``*`` is the log of the whole room."""
        return {address.partition(":")[2] for address in self._cursors}

    async def open(self) -> Self:
        """Begin to follow. Raises ``LimitReached``, ``InvalidName``, ``UnknownCommand`` of an older server …"""
        async with self._opening:
            if not self._opened and not self._closed:
                await self._bus._followings.attach(self)
                self._opened = True
        return self

    async def _end(self, *, done: bool) -> None:
        if not self._closed:
            self._finish()
            await self._bus._followings.detach(self)

    def _wants(self, address: str) -> bool:
        return False  # It hears its room as a follower.

    def _took(self, message: Message, epoch: str | None) -> None:
        if message.seq is not None and message.room == self.room:
            self._places[message.channel] = Position(message.seq, epoch)

    def _offer(self, address: str, frame: dict[str, Any]) -> None:
        if address in self._cursors or frame.get("seq") is None:
            super()._offer(address, frame)

    def _asked(self) -> dict[str, dict[str, Any]]:
        """Return the positions for the next request: after what has arrived, perhaps still unread."""
        asked = {name: at for name, at in self._from.items() if f"{self.room}:{name}" not in self._cursors}
        for address, cursor in self._cursors.items():
            if cursor.last is not None:
                asked[address.partition(":")[2]] = Position(max(cursor.last, cursor.head), cursor.epoch)
        return {name: {"seq": at.seq, "epoch": at.epoch} for name, at in asked.items()}

    def _begin(self, address: str, at: Position, *, gap: bool = False) -> None:
        super()._begin(address, at, gap=gap)
        name = address.partition(":")[2]
        before = self._places.get(name)
        # After a gap the older place stays, so that a later process learns of the gap, too.
        if before is None or (not gap and before.epoch not in (None, at.epoch)):
            self._places[name] = at

    def _answered(self, result: dict[str, Any], asked: Mapping[str, Mapping[str, Any]]) -> None:
        """Begin the channels of an answer, or go on in them, before any later frame is handled."""
        self.truncated = bool(result.get("truncated"))
        for name, row in result["channels"].items():
            address, place = f"{self.room}:{name}", asked.get(name)
            cursor = self._cursors.get(address)
            if place is None and row.get("new"):
                place = {"seq": 0, "epoch": row["epoch"]}
            if row.get("recovered") is False:
                lost = place is not None and (place["seq"] > 0 or (bool(row.get("new")) and row["first_seq"] > 1))
                self._begin(address, Position(row["first_seq"] - 1, row["epoch"]), gap=lost)
            elif place is None:
                self._begin(address, Position(row["seq"], row["epoch"]))
            elif cursor is None:
                self._begin(address, Position(place["seq"], row["epoch"]))
                if row.get("recovered") is None and place["seq"] < row["seq"]:
                    self._fill_from(address, row)
            elif cursor.epoch not in (None, row["epoch"]):
                self._begin(address, Position(row["seq"], row["epoch"]), gap=True)
            elif row.get("recovered") is None and row["seq"] > (cursor.last or 0):
                self._fill_from(address, row)
        for address in [address for address in self._cursors if address.partition(":")[2] not in result["channels"]]:
            self._gone(address)
        if WHOLE not in result["channels"]:
            # The place in a log that is still to come tells the server that whatever comes is new.
            self._from.setdefault(WHOLE, UNBORN)
            self._places.setdefault(WHOLE, UNBORN)

    def _fill_from(self, address: str, row: Mapping[str, Any]) -> None:
        """Read from the history what the connection has received already, and this subscription has not."""
        if address == self.address:
            # The log of a room cannot be read by seq.
            self._begin(address, Position(row["seq"], row["epoch"]), gap=True)
        else:
            self._follow(address, row["seq"])

    def _begun(self, name: str, payload: Mapping[str, Any]) -> None:
        """Handle a channel that begins."""
        address, seq = f"{self.room}:{name}", payload["seq"]
        if address in self._cursors:
            return
        before = self._places.get(name)
        gap = payload.get("recovered") is False or (
            before is not None and (before.epoch in (None, payload["epoch"])) and before.seq < seq
        )
        self._begin(address, Position(seq, payload["epoch"]), gap=gap)

    def _gone(self, address: str, *, deleted: bool = False) -> None:
        """Handle the end of a channel. Where it comes back, it goes on behind what has arrived."""
        cursor, name = self._cursors.pop(address, None), address.partition(":")[2]
        if deleted:
            self._from.pop(name, None)
            self._places.pop(name, None)
        elif cursor is not None and cursor.last is not None:
            self._from[name] = Position(max(cursor.last, cursor.head), cursor.epoch)


class Followings:
    """The followed rooms of a client."""

    def __init__(self, bus: Bus, heard: Heard) -> None:
        self._bus = bus
        self._heard = heard
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def _turn(self, room: str) -> asyncio.Lock:
        lock = self._turns.get(room)
        if lock is None:
            lock = self._turns[room] = asyncio.Lock()
        return lock

    async def attach(self, subscription: RoomSubscription) -> None:
        """Begin to follow for a subscription."""
        await self._bus.wait_connected()
        try:
            async with self._turn(subscription.room):
                await self._follow(subscription)
        except BaseException:
            await self.detach(subscription)
            raise

    async def _follow(self, subscription: RoomSubscription) -> None:
        asked = subscription._asked()

        def followed(answer: dict[str, Any]) -> None:
            if not subscription.closed:
                self._heard.by_room.setdefault(subscription.room, weakref.WeakSet()).add(subscription)
                self._heard.all.add(subscription)
                subscription._answered(answer["result"], asked)

        parameters = {"room": subscription.room, "positions": asked}
        frame = {"type": "command", "id": new_id(), "command": "follow", "parameters": parameters}
        await self._bus._request(frame, repeat=False, timeout=None, on_answer=followed)

    def back(self) -> None:
        """Follow again after a reconnect."""
        for room in list(self._heard.by_room):
            self._bus._spawn(self._again(room))

    async def _again(self, room: str) -> None:
        async with self._turn(room):
            for subscription in list(self._heard.by_room.get(room, ())):
                if not isinstance(subscription, RoomSubscription):
                    continue
                try:
                    await self._follow(subscription)
                except (ConnectionLost, BusClosed):
                    return
                except (ServerError, TimeoutError) as problem:
                    self._remove(subscription)
                    subscription._fail(problem)

    def notice(self, address: str, payload: Mapping[str, Any]) -> bool:
        """Handle a notice about a followed room. Return whether it is one."""
        event = payload.get("event")
        if event not in ("followed", "unfollowed", "follow_truncated"):
            return False
        for subscription in self._heard.followers(address):
            if isinstance(subscription, RoomSubscription):
                if event == "followed":
                    subscription._begun(str(payload.get("channel")), payload)
                elif event == "unfollowed":
                    subscription._gone(address, deleted=payload.get("reason") == "DELETED")
                else:
                    subscription.truncated = True
        return True

    async def detach(self, subscription: RoomSubscription) -> None:
        """End a subscription. Unfollow its room if no other one needs it."""
        room = subscription.room
        self._remove(subscription)
        async with self._turn(room):
            if room in self._heard.by_room or self._bus._failure is not None or not self._bus.connected:
                return
            try:
                await self._bus._command("unfollow", {"room": room}, repeat=False)
            except NotAMember:
                pass
            except (ArqonBusError, TimeoutError) as problem:
                logger.debug("unfollowing %s: %s", room, problem)

    def _remove(self, subscription: RoomSubscription) -> None:
        self._heard.all.discard(subscription)
        here = self._heard.by_room.get(subscription.room)
        if here is not None:
            here.discard(subscription)
            if not here:
                del self._heard.by_room[subscription.room]


class Following(Publishing):
    """Follow whole rooms."""

    _followings: Followings
    _buffer: int

    def follow(
        self,
        room: str,
        *,
        since: Mapping[str, Position] | None = None,
        presence: bool = False,
        echo: bool = False,
        fold: bool = False,
        buffer: int | None = None,
    ) -> RoomSubscription:
        """Follow all channels of a room that this client may join, also those to come. Nobody sees it there.

        ``since`` are the :attr:`RoomSubscription.positions` of an earlier process. Channels that come into being after them,
        and while the room is followed, start with their first message. Messages arrive once, and in the order of
        each channel, also after reconnects. The other arguments are as in :meth:`Bus.subscribe`.
        """
        if not room or ":" in room or room in (INBOX_ROOM, WHOLE):
            raise ValueError(f"{room!r} is not the name of a room.")
        return RoomSubscription(
            self,  # type: ignore[arg-type] # the bus itself
            room,
            since=since,
            presence=presence,
            echo=echo,
            fold=fold,
            buffer=buffer or self._buffer,
        )
