"""Finds the committed messages that no notification announced, by comparing streams with their logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ... import log
from ...directory import inboxes
from ...directory.channels import inbox_ref
from ...log import Position, erasures
from ...models import Channel
from ...protocol.errors import BusError
from ...protocol.names import INBOX_ROOM
from ...protocol.state import State
from ..client import Clients, ClientState
from ..runtime import Runtime
from .growing import Growing
from .owners import Owners
from .replay import Replays
from .streams import Streams, rebuilt

#: Seconds between comparisons of all open streams with their logs.
FULL_COMPARISON = 15.0
#: Inboxes whose owners are remembered.
REMEMBERED = 10_000
#: Clients or logs in one query.
BATCH = 500


class Watch:
    """Compares the streams of a node with their logs: often those that were appended to lately, now and then all of them.

    ``drop_log`` ends the memberships in a log, by id. Its second argument is None for a deleted log, else the error with which
    the members of a log with a new epoch are closed.
    """

    def __init__(
        self,
        runtime: Runtime,
        clients: Clients,
        streams: Streams,
        replays: Replays,
        growing: Growing,
        owners: Owners,
        drop_log: Callable[[int, BusError | None], None],
    ) -> None:
        self._runtime = runtime
        self._clients = clients
        self._streams = streams
        self._hub = streams.hub
        self._replays = replays
        self._growing = growing
        self._owners = owners
        self._drop_log = drop_log
        self._inbox_owners: dict[int, str] = {}
        # The erasures that the last look found, by their rows.
        self._erasures: set[int] | None = None
        self._last_comparison = runtime.started_at
        self._next_full = 0.0

    def compare_all_next(self) -> None:
        """Let the next comparison include all streams, as after the channel layer was away. That is one query for all."""
        self._next_full = 0.0

    async def compare(self) -> float:
        """Find messages that were committed without a notification. Return the seconds until the next comparison."""
        # Far enough back for slow transactions and for clocks that differ between machines.
        since = self._last_comparison - timedelta(seconds=30)
        now = datetime.now(UTC)
        moved = await self._runtime.run_watcher(log.moved_since, since)
        await self._attach_inboxes({place.id: place.epoch for place in moved if self._may_be_inbox(place.id)})
        for place in moved:
            self._compare_head(place)
        for channel_id, seqs in self._forget_erased(await self._runtime.run_watcher(erasures.newest)).items():
            self._streams.erased(channel_id, await self._runtime.run_watcher(erasures.messages, channel_id, seqs))
        full = self._runtime.loop.time() >= self._next_full
        growing = await self._growing.look(since, full=full)
        await self._owners.compare(growing)
        self._last_comparison = now
        if full:
            self._next_full = self._runtime.loop.time() + FULL_COMPARISON
            await self._compare_open_streams()
            await self._find_inboxes()
        return self._runtime.settings.heartbeat

    def _forget_erased(self, newest: Sequence[tuple[int, int, int]]) -> dict[int, list[int]]:
        """Forget the content of messages that were erased without a notification, or while one of them was on its way.

        Return those that members here were not told of, by their logs. Nobody asks for those before the first look.
        """
        known = self._erasures or set()
        new = [row for row in newest if row[0] not in known]
        if len(new) == erasures.LOOK:
            # There may be more of them than one look reads.
            for stream in self._hub.streams.values():
                self._hub.forget_recent(stream)
        untold: dict[int, list[int]] = {}
        for _, channel_id, seq in new:
            self._streams.forget_erased(channel_id, [seq])
            if channel_id in self._hub.streams and (channel_id, seq) not in self._streams.told_erased:
                untold.setdefault(channel_id, []).append(seq)
        first, self._erasures = self._erasures is None, {row[0] for row in newest}
        return {} if first else untold

    def _may_be_inbox(self, channel_id: int) -> bool:
        """Return whether a log may be the inbox of a client here. Its stream may be open for another reader already."""
        stream = self._hub.stream(channel_id)
        return stream is None or stream.room == INBOX_ROOM

    async def _compare_open_streams(self) -> None:
        """Compare every open stream with its log: a transaction may commit long after its messages were written in it."""
        known = {stream.id: (stream, stream.head) for stream in self._hub.streams.values() if stream.head >= 0}
        heads = await self._runtime.run_watcher(log.heads, list(known))
        for channel_id, (stream, head) in known.items():
            if self._hub.stream(channel_id) is not stream:
                continue
            if channel_id in heads:
                self._compare_head(heads[channel_id])
                if heads[channel_id].head < head:
                    self._streams.compare(stream)
            else:
                self._drop_log(channel_id, None)

    async def _find_inboxes(self) -> None:
        """Attach inboxes that came into being since their client registered."""
        waiting = [client for client in self._clients.by_id.values() if not client.inbox_id]
        for start in range(0, len(waiting), BATCH):
            part = {client.client_id: client for client in waiting[start : start + BATCH]}
            for client_id, place in (await self._runtime.run_watcher(inboxes.positions, list(part))).items():
                client = part[client_id]
                if not client.inbox_id:
                    self.attach_inbox(client, place.id, place.epoch)
                    self._compare_head(place)

    def _compare_head(self, place: Position) -> None:
        if not self._streams.compare_head(place):
            self.other_log(place.id)

    def other_log(self, channel_id: int) -> None:
        """Close the members of a log that has a new epoch: positions in the old one mean nothing in the new one."""
        self._drop_log(channel_id, rebuilt())

    async def _attach_inboxes(self, epochs: Mapping[int, str]) -> None:
        """Attach those of the logs, by id with their epochs, that are the inbox of a client here."""
        owners = self._inbox_owners
        if len(owners) > REMEMBERED:
            owners.clear()
        unknown = [channel_id for channel_id in epochs if channel_id not in owners]
        for start in range(0, len(unknown), BATCH):
            part = unknown[start : start + BATCH]
            owners.update({**dict.fromkeys(part, ""), **await self._runtime.run_watcher(_owners_of, part)})
        for channel_id, epoch in epochs.items():
            client = self._clients.by_id.get(owners[channel_id])
            if client is not None:
                self.attach_inbox(client, channel_id, epoch)

    def attach_inbox(self, client: ClientState, channel_id: int, epoch: str) -> None:
        """Deliver to ``client`` from its inbox, which came into being since it registered, from the first message on."""
        if client.state is not State.REGISTERED or client.inbox_id:
            return  # A message that comes while the client registers is found by the next comparison.
        stream = self._hub.stream(channel_id)
        if stream is None:
            stream = self._hub.open(channel_id, INBOX_ROOM, client.client_id, epoch, 0)
        client.inbox_id = channel_id
        # Another reader may have opened the stream already, such as a stream of events.
        if stream.head < 0:
            self._runtime.spawn(self._attach_once_open(client, channel_id, epoch))
        else:
            self._replays.catch_up(client, {stream: 0})

    async def _attach_once_open(self, client: ClientState, channel_id: int, epoch: str) -> None:
        """:meth:`attach_inbox` for a stream that is being opened at this moment."""
        try:
            streams = await self._streams.open([inbox_ref(channel_id, client.client_id, epoch)])
        except BusError:
            client.inbox_id = 0  # The next comparison finds it.
            return
        if client.state is State.REGISTERED:
            self._replays.catch_up(client, dict.fromkeys(streams, 0))


def _owners_of(channel_ids: Sequence[int]) -> dict[int, str]:
    """Return the logs among ``channel_ids`` that are inboxes, each with its client's id."""
    return dict(Channel.objects.filter(id__in=channel_ids, room__name=INBOX_ROOM).values_list("id", "name"))
