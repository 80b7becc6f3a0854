"""Presence notices: the members of a channel see its members join and leave.

A notice goes to every member. In a small channel each notice is a frame of its own. n members that join
at once would cost n × n frames, so the notices of a moment in a large channel become one frame with a list.
The larger the channel, the longer is that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from ... import signals
from ...auth.permissions import PRESENCE, table
from ...directory.channels import ChannelRef
from ...models import wire_time
from ...notify.broker import Broker
from ...notify.messages import ClientUpdated, PresenceNotice
from ...protocol import frames
from ...protocol.names import Address
from ...realtime.hub import Hub, Stream
from ...services.nodes import Left
from ...services.statuses import notice_frame
from ..client import ClientState
from ..permissions import Permissions
from ..runtime import Runtime

#: Names in a gathered notice. Of more clients only the number is given.
LISTED = 50
#: Members above which notices are gathered longer, in proportion. So the frames of a second do not grow with the channel.
LARGE = 1000


class _Gathering:
    """The joins, leaves and new statuses of one channel since its last gathered notice."""

    __slots__ = ("address", "counted", "joined", "left", "participants", "updated")

    def __init__(self, address: Address) -> None:
        self.address = address
        #: Whether members learn only how many join and leave.
        self.counted = False
        self.joined: dict[str, dict[str, Any]] = {}
        self.left: dict[str, dict[str, Any]] = {}
        self.updated: dict[str, ClientUpdated] = {}
        self.participants = 0


class Notices:
    """Sends presence notices to the members here and to the other processes."""

    def __init__(self, runtime: Runtime, hub: Hub, broker: Broker, permissions: Permissions) -> None:
        self._runtime = runtime
        self._hub = hub
        self._broker = broker
        self._permissions = permissions
        self._gathering: dict[int, _Gathering] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        # New statuses in small channels, by channel id and client id. Each becomes a frame of its own.
        self._updates: dict[int, dict[str, ClientUpdated]] = {}

    def joined(self, client: ClientState, ref: ChannelRef, participants: int) -> None:
        """Notify the other members that ``client`` is a member now. ``participants`` includes it."""
        card = client.card()
        status = client.status
        # Times on the wire have one form, so their order is that of their texts.
        if status is not None and (status["until"] is None or status["until"] > wire_time(timezone.now())):
            card["status"] = status
        self._notify("client_joined", card, ref, participants, client)

    def left(self, card: dict[str, Any], ref: ChannelRef, participants: int) -> None:
        """Notify the members that a client, described by ``card``, has left. ``participants`` does not include it."""
        self._notify("client_left", card, ref, participants, None)

    def updated(self, update: ClientUpdated) -> None:
        """Notify the members of a channel of a client's new status, at most once per client in ``presence_coalesce``."""
        settings = self._runtime.settings
        channel_id, client_id = update.channel_id, update.card["client_id"]
        if not settings.presence_coalesce:
            self._send(channel_id, notice_frame(update))
        elif update.participants > settings.presence_coalesce_above or channel_id in self._gathering:
            gathering = self._gathered(channel_id, Address(update.room, update.channel), update.participants)
            gathering.updated[client_id] = update
        elif channel_id in self._updates:
            self._updates[channel_id][client_id] = update
        else:
            self._updates[channel_id] = {client_id: update}
            self._runtime.loop.call_later(settings.presence_coalesce, self._send_updates, channel_id)

    def _send_updates(self, channel_id: int) -> None:
        for update in self._updates.pop(channel_id, {}).values():
            self._send(channel_id, notice_frame(update))

    def all_left(self, left: Sequence[Left]) -> None:
        """Notify the members of every channel that one of these clients was in."""
        for client in left:
            self.left(client.card, client.ref, client.participants)

    def process_died(self, left: Sequence[Left]) -> None:
        """As :meth:`all_left`, for the clients of a process that died, whose disconnection no signal has reported yet."""
        self.all_left(left)
        cards = {client.card["client_id"]: client.card for client in left}
        # The room that a client began in is not stored. A client of any private room is reported as private.
        hidden = {client.card["client_id"] for client in left if client.ref.private}
        for client_id, card in cards.items():
            signals.client_disconnected.send_robust(ClientState, client=card, code=1006, private=client_id in hidden)

    def deliver(self, channel_id: int, frame: bytes, exclude: ClientState | None = None) -> None:
        """Send a notice to those members here that have the right to presence."""
        stream = self._hub.stream(channel_id)
        if stream is None:
            return
        if not table().hides_presence and _open_to_all(stream, channel_id):
            self._hub.broadcast(stream, frame, exclude)
            return
        for client in list(stream.members):
            if isinstance(client, ClientState) and client is not exclude:
                ref = client.receives_as(channel_id)
                if ref is not None and self._permissions.may(client, PRESENCE, ref):
                    self._hub.send(client, frame)

    def _send(self, channel_id: int, frame: bytes, exclude: ClientState | None = None) -> None:
        self.deliver(channel_id, frame, exclude)
        self._broker.send(PresenceNotice(channel_id, frame))

    def stop(self) -> None:
        """Send the gathered notices at once, and gather no more."""
        for timer in self._timers.values():
            timer.cancel()
        for channel_id in list(self._gathering):
            self._send_gathered(channel_id)
        for channel_id in list(self._updates):
            self._send_updates(channel_id)

    def _notify(
        self, event: str, card: dict[str, Any], ref: ChannelRef, participants: int, client: ClientState | None
    ) -> None:
        if not (ref.presence or ref.counted):
            return
        if event == "client_left":
            # Members must not hear of a status after its client has left.
            self._updates.get(ref.id, {}).pop(card["client_id"], None)
        settings = self._runtime.settings
        busy = settings.presence_coalesce and participants > settings.presence_coalesce_above
        # Behind the gathered notices: sent before them, a client that left would seem to come.
        if busy or ref.counted or ref.id in self._gathering:
            self._gather(event, card, ref, participants)
            return
        frame = frames.system(event, ref.address, **card, participants=participants)
        self._send(ref.id, frame, client)

    def _gather(self, event: str, card: dict[str, Any], ref: ChannelRef, participants: int) -> None:
        gathering = self._gathered(ref.id, ref.address, participants)
        gathering.counted = ref.counted
        here, there = (
            (gathering.joined, gathering.left) if event == "client_joined" else (gathering.left, gathering.joined)
        )
        there.pop(card["client_id"], None)
        here[card["client_id"]] = card
        if event == "client_left":
            gathering.updated.pop(card["client_id"], None)

    def _gathered(self, channel_id: int, address: Address, participants: int) -> _Gathering:
        """Return what is gathered of a channel, and send it soon."""
        gathering = self._gathering.setdefault(channel_id, _Gathering(address))
        gathering.participants = participants
        if channel_id not in self._timers:
            pause = self._runtime.settings.presence_coalesce * max(1.0, participants / LARGE)
            self._timers[channel_id] = self._runtime.loop.call_later(pause, self._send_gathered, channel_id)
        return gathering

    def _send_gathered(self, channel_id: int) -> None:
        self._timers.pop(channel_id, None)
        gathering = self._gathering.pop(channel_id, None)
        if gathering is None:
            return
        updated: dict[str, Any] = {}
        named = 0 if gathering.counted else LISTED
        if gathering.updated:
            listed = list(gathering.updated.values())[:named]
            updated["updated"] = [{**update.card, "status": update.status} for update in listed]
            updated["updated_count"] = len(gathering.updated)
        frame = frames.system(
            "presence",
            gathering.address,
            joined=list(gathering.joined.values())[:named],
            joined_count=len(gathering.joined),
            left=list(gathering.left.values())[:named],
            left_count=len(gathering.left),
            participants=gathering.participants,
            **updated,
        )
        self._send(channel_id, frame)


def _open_to_all(stream: Stream, channel_id: int) -> bool:
    """Return whether no member here could lack the right to presence, without a rule against it."""
    for member in stream.members:
        if isinstance(member, ClientState):
            ref = member.receives_as(channel_id)
            if ref is not None and (ref.private or member.actor.scopes is not None):
                return False
    return True
