"""Notices of who joins and leaves (contract §3), gathered where a channel is busy.

A notice goes to every member. While a channel is small each one is a frame of its own; in a storm of n members it would be
n × n frames, so from some size on the notices of a moment become one frame with a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ... import signals
from ...auth.permissions import PRESENCE, table
from ...directory.channels import ChannelRef
from ...notify.messages import PresenceNotice
from ...protocol import frames
from ...services.nodes import Left
from ..client import ClientState

if TYPE_CHECKING:
    from ..node import Node

#: Names in a gathered notice; above that the numbers have to do.
LISTED = 50


class _Gathering:
    """The joins and leaves of one channel since its last notice."""

    __slots__ = ("joined", "left", "participants", "ref")

    def __init__(self, ref: ChannelRef) -> None:
        self.ref = ref
        self.joined: dict[str, dict[str, Any]] = {}
        self.left: dict[str, dict[str, Any]] = {}
        self.participants = 0


class Notices:
    """Sends a node's presence notices."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gathering: dict[int, _Gathering] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def joined(self, client: ClientState, ref: ChannelRef, participants: int) -> None:
        """``client`` is a member now; ``participants`` counts it."""
        self._tell("client_joined", client.card(), ref, participants, client)

    def left(self, card: dict[str, Any], ref: ChannelRef, participants: int) -> None:
        """A client is no longer a member; ``participants`` does not count it."""
        self._tell("client_left", card, ref, participants, None)

    def gone(self, left: Sequence[Left]) -> None:
        """Clients whose end others found out: tell the members of their channels, here and in the other processes."""
        for gone in left:
            self.left(gone.card, gone.ref, gone.participants)

    def lost(self, left: Sequence[Left]) -> None:
        """:meth:`gone` for clients of a process that died without a word: nobody said yet that they are disconnected."""
        self.gone(left)
        cards = {gone.card["client_id"]: gone.card for gone in left}
        # Of whoever was in a private room nothing is told: in which room a client began is not written down.
        hidden = {gone.card["client_id"] for gone in left if gone.ref.private}
        for client_id, card in cards.items():
            signals.client_disconnected.send_robust(ClientState, client=card, code=1006, private=client_id in hidden)

    def deliver(self, channel_id: int, frame: bytes, exclude: ClientState | None = None) -> None:
        """Hand a notice to the members here that may see who is there."""
        node = self._node
        stream = node.hub.stream(channel_id)
        if stream is None:
            return
        clients = [
            member for member in stream.members if isinstance(member, ClientState) and channel_id in member.memberships
        ]
        open_to_all = not table().hides_presence and not any(
            client.actor.scopes is not None or client.memberships[channel_id].private for client in clients
        )
        if open_to_all:
            node.hub.pass_on(stream, frame, exclude)
            return
        for client in clients:
            if client is not exclude and node.may(client, PRESENCE, client.memberships[channel_id]):
                node.hub.send(client, frame)

    def _send(self, channel_id: int, frame: bytes, exclude: ClientState | None = None) -> None:
        self.deliver(channel_id, frame, exclude)
        self._node.broker.send(PresenceNotice(channel_id, frame))

    def stop(self) -> None:
        """Send what is gathered: its time does not come any more."""
        for timer in self._timers.values():
            timer.cancel()
        for channel_id in list(self._gathering):
            self._send_gathered(channel_id)

    def _tell(
        self, event: str, card: dict[str, Any], ref: ChannelRef, participants: int, client: ClientState | None
    ) -> None:
        if not ref.presence:
            return
        settings = self._node.settings
        busy = settings.presence_coalesce and participants > settings.presence_coalesce_above
        # Behind what is gathered already: told before it, who left would seem to come.
        if busy or ref.id in self._gathering:
            self._gather(event, card, ref, participants)
            return
        frame = frames.system(event, ref.address, **card, participants=participants)
        self._send(ref.id, frame, client)

    def _gather(self, event: str, card: dict[str, Any], ref: ChannelRef, participants: int) -> None:
        gathering = self._gathering.setdefault(ref.id, _Gathering(ref))
        here, there = (
            (gathering.joined, gathering.left) if event == "client_joined" else (gathering.left, gathering.joined)
        )
        there.pop(card["client_id"], None)
        here[card["client_id"]] = card
        gathering.participants = participants
        if ref.id not in self._timers:
            self._timers[ref.id] = self._node.loop.call_later(
                self._node.settings.presence_coalesce, self._send_gathered, ref.id
            )

    def _send_gathered(self, channel_id: int) -> None:
        self._timers.pop(channel_id, None)
        gathering = self._gathering.pop(channel_id, None)
        if gathering is None:
            return
        frame = frames.system(
            "presence",
            gathering.ref.address,
            joined=list(gathering.joined.values())[:LISTED],
            joined_count=len(gathering.joined),
            left=list(gathering.left.values())[:LISTED],
            left_count=len(gathering.left),
            participants=gathering.participants,
        )
        self._send(channel_id, frame)
