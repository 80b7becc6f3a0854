"""A process's own looks at the log: what no notification announced is found here (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ... import log
from ...directory.channels import inbox_ref
from ...models import Channel
from ...protocol.errors import BusError
from ...protocol.names import INBOX_ROOM
from ...protocol.state import State
from ..client import ClientState
from ..clients.members import rebuilt

if TYPE_CHECKING:
    from ..node import Node

#: Time between comparisons of all open streams with their logs, in seconds.
FULL_LOOK = 15.0
#: Logs whose owners are remembered (most have none), and clients or logs in one query.
REMEMBERED, TOGETHER = 10_000, 500


class Watch:
    """Compares the streams of a node with their logs, often with those that moved lately, now and then with all."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._inbox_owners: dict[int, str] = {}
        self._last_look = node.started_at
        self._next_full_look = 0.0

    def everywhere(self) -> None:
        """The layer was away: let the next look compare all streams with their logs, which is one question for all of them."""
        self._next_full_look = 0.0

    async def look(self) -> float:
        """Find what was committed without a notification: by processes that cannot send any, or while the layer was away."""
        # Far enough back for slow transactions and for clocks that differ between machines.
        since = self._last_look - timedelta(seconds=30)
        now = datetime.now(UTC)
        moved: list[tuple[int, int, str]] = await self._node.run_watcher(log.moved_since, since)
        await self._look_for_inboxes({key: epoch for key, _, epoch in moved if self._may_be_waited_for(key)})
        for channel_id, head, epoch in moved:
            self._saw_head(channel_id, head, epoch)
        self._last_look = now
        if self._node.loop.time() >= self._next_full_look:
            self._next_full_look = self._node.loop.time() + FULL_LOOK
            await self._look_at_all()
        return self._node.settings.heartbeat

    def _may_be_waited_for(self, channel_id: int) -> bool:
        """Whether a log may be the inbox of a client here that does not hear it yet; others may (a stream of events)."""
        stream = self._node.hub.stream(channel_id)
        return stream is None or stream.room == INBOX_ROOM

    async def _look_at_all(self) -> None:
        """Compare every open stream with its log: a transaction may commit long after its messages were written in it."""
        known = {stream.id: (stream, stream.head) for stream in self._node.hub.streams.values() if stream.head >= 0}
        heads = await self._node.run_watcher(log.heads, list(known))
        for channel_id, (stream, head) in known.items():
            if self._node.hub.stream(channel_id) is not stream:
                continue
            if channel_id in heads:
                self._saw_head(channel_id, *heads[channel_id])
                if heads[channel_id][0] < head:
                    self._node.streams.doubt(stream)
            else:
                self._node.members.drop_stream(channel_id, None)
        waiting = [client for client in self._node.clients.by_id.values() if not client.inbox_id]
        for start in range(0, len(waiting), TOGETHER):
            part = {client.client_id: client for client in waiting[start : start + TOGETHER]}
            for channel_id, name, head, epoch in await self._node.run_watcher(_inboxes_of, list(part)):
                if not part[name].inbox_id:
                    self.attach_inbox(part[name], channel_id, epoch)
                    self._saw_head(channel_id, head, epoch)

    def _saw_head(self, channel_id: int, head: int, epoch: str) -> None:
        if not self._node.streams.seen_head(channel_id, head, epoch):
            self.other_log(channel_id)

    def other_log(self, channel_id: int) -> None:
        """The log was rebuilt. Positions in the old one mean nothing; who comes back is told so (`recovered: false`)."""
        self._node.members.drop_stream(channel_id, rebuilt())

    async def _look_for_inboxes(self, epochs: Mapping[int, str]) -> None:
        """Attach what of these logs (by id, with their epochs) is the inbox of a client that is here."""
        owners = self._inbox_owners
        if len(owners) > REMEMBERED:
            owners.clear()
        unknown = [channel_id for channel_id in epochs if channel_id not in owners]
        for start in range(0, len(unknown), TOGETHER):
            part = unknown[start : start + TOGETHER]
            owners.update({**dict.fromkeys(part, ""), **await self._node.run_watcher(_owners_of, part)})
        for channel_id, epoch in epochs.items():
            client = self._node.clients.by_id.get(owners[channel_id])
            if client is not None:
                self.attach_inbox(client, channel_id, epoch)

    def attach_inbox(self, client: ClientState, channel_id: int, epoch: str) -> None:
        """Make ``client`` a listener of its inbox, which came into being since it registered, from the first letter on."""
        if client.state is not State.REGISTERED or client.inbox_id:
            return  # What comes while it registers is found by the next look at the log.
        stream = self._node.hub.stream(channel_id)
        if stream is None:
            stream = self._node.hub.open(channel_id, INBOX_ROOM, client.client_id, epoch, 0)
        client.inbox_id = channel_id
        # Somebody else may follow it here since before, such as a stream of events.
        if stream.head < 0:
            self._node.spawn(self._attach_once_open(client, channel_id, epoch))
        else:
            self._node.members.catch_up(client, [(stream, 0)])

    async def _attach_once_open(self, client: ClientState, channel_id: int, epoch: str) -> None:
        """:meth:`attach_inbox` where somebody is opening the stream at this moment."""
        try:
            streams = await self._node.members.open([inbox_ref(channel_id, client.client_id, epoch)])
        except BusError:
            client.inbox_id = 0  # The next look finds it.
            return
        if client.state is State.REGISTERED:
            self._node.members.catch_up(client, [(stream, 0) for stream in streams])


def _owners_of(channel_ids: Sequence[int]) -> dict[int, str]:
    """Those of the logs that are inboxes, each with its client's id."""
    return dict(Channel.objects.filter(id__in=channel_ids, room__name=INBOX_ROOM).values_list("id", "name"))


def _inboxes_of(client_ids: Sequence[str]) -> list[tuple[int, str, int, str]]:
    rows = Channel.objects.filter(room__name=INBOX_ROOM, name__in=client_ids)
    return list(rows.values_list("id", "name", "head", "epoch"))
