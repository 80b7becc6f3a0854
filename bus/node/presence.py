"""Notices of who joins and leaves (contract §3), gathered where a channel is busy.

A notice goes to every member. While a channel is small each one is a frame of its own; in a storm of n members it would be
n × n frames, so from some size on the notices of a moment become one frame with a list.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..protocol import frames
from ..services.channels import ChannelRef

if TYPE_CHECKING:
    from .node import Node
    from .peer import Peer

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

    def joined(self, peer: Peer, ref: ChannelRef, participants: int) -> None:
        """``peer`` is a member now; ``participants`` counts it."""
        self._tell("client_joined", peer.card(), ref, participants, peer)

    def left(self, card: dict[str, Any], ref: ChannelRef, participants: int) -> None:
        """A client is no longer a member; ``participants`` does not count it."""
        self._tell("client_left", card, ref, participants, None)

    def stop(self) -> None:
        """Send nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell(self, event: str, card: dict[str, Any], ref: ChannelRef, participants: int, peer: Peer | None) -> None:
        if not ref.presence:
            return
        settings = self._node.settings
        if settings.presence_coalesce and participants > settings.presence_coalesce_above:
            self._gather(event, card, ref, participants)
            return
        frame = frames.system(event, ref.address, **card, participants=participants)
        self._node.pass_on(ref.id, frame, peer)

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
        self._node.pass_on(channel_id, frame)
