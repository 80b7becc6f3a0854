"""A process's own looks at the log: what no bell announced is found here (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .. import log
from ..models import Channel
from ..protocol.errors import BusError
from ..protocol.names import INBOX_ROOM

if TYPE_CHECKING:
    from .node import Node

#: Time between comparisons of all open streams with their logs, in seconds.
FULL_LOOK = 15.0


class Watch:
    """Compares the streams of a node with their logs, often with those that moved lately, now and then with all."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._inbox_owners: dict[int, str] = {}
        self._last_look = node.started_at
        self._next_full_look = 0.0

    def everywhere(self) -> None:
        """The layer was away: look at the whole of the log's recent past at once."""
        self._next_full_look = 0.0
        self._node.streams.suspect_all()

    async def look(self) -> float:
        """Find what was committed without a bell: by processes that cannot ring, or while the layer was away."""
        # Far enough back for slow transactions and for clocks that differ between machines.
        since = self._last_look - timedelta(seconds=30)
        now = datetime.now(UTC)
        for channel_id, head, epoch in await self._node.run_watcher(log.moved_since, since):
            if self._node.hub.stream(channel_id) is None:
                await self._look_for_inbox(channel_id, epoch)
            self._saw_head(channel_id, head, epoch)
        self._last_look = now
        if self._node.loop.time() >= self._next_full_look:
            self._next_full_look = self._node.loop.time() + FULL_LOOK
            await self._look_at_all()
        return self._node.settings.heartbeat

    async def _look_at_all(self) -> None:
        """Compare every open stream with its log: a transaction may commit long after its messages were written in it."""
        known = {stream.id: stream for stream in self._node.hub.streams.values() if stream.head >= 0}
        heads = await self._node.run_watcher(log.heads, list(known))
        for channel_id, stream in known.items():
            if self._node.hub.stream(channel_id) is not stream:
                continue
            if channel_id in heads:
                self._saw_head(channel_id, *heads[channel_id])
            else:
                self._node.members.drop_stream(channel_id, None)
        waiting = [peer for peer in self._node.by_client.values() if not peer.inbox_id]
        for start in range(0, len(waiting), 500):
            part = {peer.client_id: peer for peer in waiting[start : start + 500]}
            for channel_id, name, head, epoch in await self._node.run_watcher(_inboxes_of, list(part)):
                if part[name].registered and not part[name].inbox_id:
                    self._node.attach_inbox(part[name], channel_id, epoch)
                    self._saw_head(channel_id, head, epoch)

    def _saw_head(self, channel_id: int, head: int, epoch: str) -> None:
        if not self._node.streams.seen_head(channel_id, head, epoch):
            # The log was rebuilt. Positions in the old one mean nothing; who comes back is told so (`recovered: false`).
            self._node.members.drop_stream(
                channel_id, BusError("RESTARTING", "The log was rebuilt; come back.", retry_after=0.5)
            )

    async def _look_for_inbox(self, channel_id: int, epoch: str) -> None:
        names = self._inbox_owners
        if len(names) > 10_000:
            names.clear()
        if channel_id not in names:
            names[channel_id] = await self._node.run_watcher(_inbox_owner, channel_id)
        owner = names[channel_id]
        peer = self._node.by_client.get(owner) if owner else None
        if peer is not None:
            self._node.attach_inbox(peer, channel_id, epoch)


def _inbox_owner(channel_id: int) -> str:
    row = Channel.objects.filter(id=channel_id, room__name=INBOX_ROOM).values_list("name", flat=True).first()
    return row or ""


def _inboxes_of(client_ids: Sequence[str]) -> list[tuple[int, str, int, str]]:
    rows = Channel.objects.filter(room__name=INBOX_ROOM, name__in=client_ids)
    return list(rows.values_list("id", "name", "head", "epoch"))
