"""Finds the committed messages that no notification announced, by comparing streams with their logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ...directory import inboxes
from ...directory.channels import inbox_ref
from ...log import Position, erasures, looks
from ...protocol.errors import BusError
from ...protocol.names import INBOX_ROOM
from ...protocol.state import State
from ...realtime.hub import Stream
from ..client import Clients, ClientState
from ..runtime import Runtime
from .growing import Growing
from .owners import Owners
from .replay import Replays
from .streams import Streams, rebuilt

#: Seconds between looks that also find what was committed very late (``looks.LATE``).
FULL_COMPARISON = 15.0
#: Erasures that are remembered, before those that no look reads any more are forgotten.
REMEMBERED = 10_000
#: Clients in one query.
BATCH = 500


class Watch:
    """Compares the streams of a node with their logs, and finds what else came into being without a notification.

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
        self._channels_above, self._erased_above = looks.Floor(), looks.Floor()
        # The erasures that are known, by their rows.
        self._erasures: set[int] | None = None
        self._last_comparison = runtime.started_at
        self._next_full = 0.0

    def compare_all_next(self) -> None:
        """Let the next comparison look for what was committed very late, too, as after the channel layer was away."""
        self._next_full = 0.0

    async def compare(self) -> float:
        """Find messages that were committed without a notification. Return the seconds until the next comparison."""
        since = self._last_comparison - timedelta(seconds=30)
        now = datetime.now(UTC)
        full = self._runtime.loop.time() >= self._next_full
        streams = {stream.id: stream for stream in self._hub.streams.values() if stream.head >= 0}
        known = [(stream.id, stream.head, stream.epoch) for stream in streams.values()]
        # Now and then all of the newest erasures are read: a transaction may commit long after it took its key.
        erased_above = 0 if full else self._erased_above.value
        found = await self._runtime.run_watcher(looks.look, known, self._channels_above.value, erased_above, since)
        self._channels_above.saw(found.newest_channel, self._runtime.loop.time())
        self._erased_above.saw(found.newest_erasure, self._runtime.loop.time())
        self._compare_streams(found, streams, {place[0]: place[1] for place in known})
        for client_id, place in found.inboxes:
            self._attach(client_id, place)
        for channel_id, seqs in self._forget_erased(found.erasures).items():
            self._streams.erased(channel_id, await self._runtime.run_watcher(erasures.messages, channel_id, seqs))
        if found.streams or self._growing.open:
            await self._owners.compare(await self._growing.look(since, full=full))
        self._last_comparison = now
        if full:
            self._next_full = self._runtime.loop.time() + FULL_COMPARISON
            await self._find_inboxes()
        return self._runtime.settings.heartbeat

    def _compare_streams(self, found: looks.Look, streams: Mapping[int, Stream], heads: Mapping[int, int]) -> None:
        """Read what the open streams lack. ``heads`` are the positions of the streams at the beginning of the look."""
        for place in found.moved:
            if self._hub.stream(place.id) is streams[place.id]:
                self._compare_head(place)
                if place.head < heads[place.id]:
                    self._streams.compare(streams[place.id])
        for channel_id in found.gone:
            if self._hub.stream(channel_id) is streams[channel_id]:
                self._drop_log(channel_id, None)

    def _attach(self, client_id: str, place: Position) -> None:
        """Attach an inbox that came into being lately, if its client is here and has none yet."""
        client = self._clients.by_id.get(client_id)
        if client is not None and not client.inbox_id:
            self.attach_inbox(client, place.id, place.epoch)
            self._compare_head(place)

    def _forget_erased(self, newest: Sequence[tuple[int, int, int]]) -> dict[int, list[int]]:
        """Forget the content of messages that were erased without a notification, or while one of them was on its way.

        Return those that members here were not told of, by their logs. Nobody asks for those before the first look.
        """
        first, known = self._erasures is None, self._erasures or set()
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
        known.update(row[0] for row in new)
        self._erasures = known if len(known) <= REMEMBERED else set(sorted(known)[-erasures.LOOK :])
        return {} if first else untold

    async def _find_inboxes(self) -> None:
        """Attach inboxes that came into being since their client registered."""
        waiting = [client for client in self._clients.by_id.values() if not client.inbox_id]
        for start in range(0, len(waiting), BATCH):
            part = {client.client_id: client for client in waiting[start : start + BATCH]}
            for client_id, place in (await self._runtime.run_watcher(inboxes.positions, list(part))).items():
                self._attach(client_id, place)

    def _compare_head(self, place: Position) -> None:
        if not self._streams.compare_head(place):
            self.other_log(place.id)

    def other_log(self, channel_id: int) -> None:
        """Close the members of a log that has a new epoch: positions in the old one mean nothing in the new one."""
        self._drop_log(channel_id, rebuilt())

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
            client.inbox_id = 0
            self.compare_all_next()
            return
        if client.state is State.REGISTERED:
            self._replays.catch_up(client, dict.fromkeys(streams, 0))
