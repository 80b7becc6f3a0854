"""How a client catches up with a log: where it continues, what it missed, and the moment in which it becomes a member."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from django.db import Error as DatabaseError

from ... import log
from ...auth.permissions import HISTORY, can, table
from ...directory.channels import ChannelRef
from ...log.pages import Span, Wanted, read_page
from ...log.store import parse_moment
from ...monitoring.failures import reported
from ...protocol.errors import SLOW, BusError, Closing, ErrorCode
from ...protocol.kept import legible
from ...protocol.names import Address
from ...realtime.frame import Batch
from ...realtime.hub import Hub, Stream
from ...realtime.recent import RecentMessages
from ..client import ClientState
from ..runtime import Runtime
from .channels import Channels
from .streams import PAGE, Rows, Streams, pruned

logger = logging.getLogger("arqonbus.node")

#: Bytes written to one socket before the replay waits for the socket.
CHUNK_BYTES = 128 * 1024
#: Bytes of one page. A page of large messages has fewer of them.
PAGE_BYTES = 4 * 1024 * 1024
#: Bytes of the newest messages in the answer to a join. The answer contains them twice.
LATEST_BYTES = 384 * 1024
#: Seconds that a page read for one client is kept for others that come back with it, and most bytes of all such pages.
PAGE_LIFE = 5.0
PAGES_BYTES = 16 * 1024 * 1024
#: Replays from memory that are kept for further clients; each has at most CHUNK_BYTES.
SHARED = 8


class Start(NamedTuple):
    """Where a client continues in a log."""

    #: The seq after which its messages follow.
    position: int
    #: Whether it missed nothing up to there.
    recovered: bool
    #: The first seq that is left in the log, where it missed something.
    first_seq: int | None = None

    def behind(self, floor: int) -> Start:
        """Return the start of a client that may not have the messages up to ``floor``. That counts as a hole, too."""
        if self.position >= floor:
            return self
        return Start(floor, False, max(self.first_seq or 0, floor + 1))


class Latest(NamedTuple):
    """The newest messages of a log up to ``head``, oldest first."""

    head: int
    messages: list[bytes]

    def with_newer(self, newer: Rows, count: int) -> Latest:
        """Return the newest ``count`` messages of both, or as many as fit into an answer."""
        if not newer:
            return self
        both = [*self.messages, *(legible(frame, seq) for seq, frame in newer)][-count:] if count else []
        size = 0
        for at in range(len(both) - 1, -1, -1):
            size += len(both[at])
            if size > LATEST_BYTES and at < len(both) - 1:
                both = both[at + 1 :]
                break
        return Latest(newer[-1][0], both)


class _Shared(NamedTuple):
    """The messages between two positions of a log, as one batch for all clients that come back at the same position."""

    recent: RecentMessages
    position: int
    head: int
    batch: Batch


class Replays:
    """Brings connections from a position in a log to its head, and then makes them members of its stream."""

    def __init__(self, runtime: Runtime, hub: Hub, streams: Streams, channels: Channels) -> None:
        self._runtime = runtime
        self._hub = hub
        self._streams = streams
        self._channels = channels
        self._pages = Pages(runtime, hub, streams)
        # By log.
        self._shared: dict[int, _Shared] = {}

    async def start_for(
        self,
        client: ClientState,
        ref: ChannelRef,
        stream: Stream,
        since: int | str,
        epoch: str | None,
        *,
        left: int | None = None,
    ) -> Start:
        """Return where ``client`` continues in a log, as :meth:`start` and within its rights.

        Without the right to history that is the head. ``ref`` is the channel as it was when its stream was opened.
        """
        if not self._may_read(client, ref):
            return Start(stream.head, False, stream.head + 1)
        start = await self.start(stream, since, epoch, left=left)
        return start.behind(client.inbox_floor) if ref.address.is_inbox else start

    async def latest(self, client: ClientState, ref: ChannelRef, stream: Stream, count: int) -> Latest | None:
        """Return the newest ``count`` messages, or as many as fit into an answer. None without the right to history.

        Raises the database's error.
        """
        if not self._may_read(client, ref):
            return None
        head = stream.head
        low = max(head - count, 0)
        recent = stream.recent_after(low)
        if recent is not None and sum(len(frame) for _, frame in recent) <= LATEST_BYTES:
            return Latest(head, [legible(frame, seq) for seq, frame in recent])
        span = Span(stream.id, low, head + 1)
        page = partial(read_page, limit=count, descending=True, most_bytes=LATEST_BYTES)
        found, _ = await self._runtime.run_watcher(page, [span], Wanted())
        return Latest(head, [message.frame for message in reversed(found)])

    def _may_read(self, client: ClientState, ref: ChannelRef) -> bool:
        # ``ref`` is the channel as it was when its stream was opened.
        ref = self._channels.known(ref.address) or client.memberships.get(ref.id, ref)
        return can(client.actor, HISTORY, ref.address, private=ref.private, rules=table().loaded)

    async def start(self, stream: Stream, since: int | str, epoch: str | None, *, left: int | None = None) -> Start:
        """Return where a client continues that was at ``since``, a seq or an ISO time, in the log with this ``epoch``.

        ``left`` is the first message that is left, if the caller knows it (:meth:`first_left`).

        Raises ``BusError`` VALIDATION_ERROR for an unreadable time, and the database's error.
        """
        if isinstance(since, str):
            return await self._start_at_time(stream, since)
        # Without an epoch a seq is believed. An empty epoch is of a log that did not exist yet, so nothing was seen in it.
        same = epoch in (None, stream.epoch) or (not epoch and since == 0)
        if same and since > stream.head:
            # It was further on in another process, whose notifications are still on their way to this one.
            await self._streams.read_on(stream)
        if same and since <= stream.head and stream.remembers(since):
            return Start(since, True)
        if left is None:
            left = await self._first_left(stream)
        if same and left - 1 <= since <= stream.head:
            return Start(since, True)
        return Start(left - 1, False, left)

    async def _start_at_time(self, stream: Stream, since: str) -> Start:
        moment = check_since(since)
        if moment > datetime.now(UTC):
            return Start(stream.head, True)
        position = await self._runtime.run_watcher(log.seq_before, stream.id, moment)
        if position > stream.head:
            await self._streams.read_on(stream)
        left = await self._first_left(stream)
        if position < left and left > 1:
            # Nothing tells whether there were messages between that time and the first one that is left.
            return Start(left - 1, False, left)
        return Start(position, True)

    async def first_left(self, streams: Collection[Stream]) -> dict[int, int]:
        """Return the first message that is left in each log, by channel id. One query for all; raises the database's error."""
        if not streams:
            return {}
        heads = {stream.id: stream.head for stream in streams}
        found = await self._runtime.run_watcher(log.first_seqs, list(heads))
        return {channel_id: heads[channel_id] + 1 if first is None else first for channel_id, first in found.items()}

    async def _first_left(self, stream: Stream) -> int:
        first = await self._runtime.run_watcher(log.first_seq, stream.id)
        return first if first is not None else stream.head + 1

    def catch_up(self, client: ClientState, starts: Mapping[Stream, int]) -> None:
        """Bring ``client`` from its position in each stream to the head: at once from memory, else in a background task.

        It becomes a member of each stream there. A failure closes the connection.
        """
        late = {stream: position for stream, position in starts.items() if not self.follow(client, stream, position)}
        if late:
            client.replays.update((stream.id, late) for stream in late)
            self._runtime.spawn(self._replay_all(client, late))

    async def _replay_all(self, client: ClientState, starts: Mapping[Stream, int]) -> None:
        """Replay one log after another. Skip a log that the client left meanwhile, or for which it began another replay."""
        try:
            for stream, position in starts.items():

                def wanted(here: int = stream.id) -> bool:
                    return client.replays.get(here) is starts

                await self.replay(client, stream, position, wanted)
                if wanted():
                    del client.replays[stream.id]
        except Closing as closing:
            client.drop(closing.close_code, closing.error)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the client hears of it and comes back
            error = reported(
                logger,
                "replay failed",
                event="internal_error",
                problem=problem,
                retry_after=1.0,
                client=client.client_id,
            )
            client.drop(SLOW, error)

    def follow(self, client: ClientState, stream: Stream, position: int) -> bool:
        """Send the messages after ``position`` from memory and make ``client`` a member.

        Return False, and do nothing, where memory lacks some of them or they are too many for one loop turn.
        """
        if position < stream.head:
            batch = self._batch(stream, position)
            if batch is None:
                return False
            client.writer.write(batch)
        else:
            client.writer.flush()
        self._hub.add(stream, client, parts=client.wants_parts(stream.id, stream.room))
        return True

    def _batch(self, stream: Stream, position: int) -> Batch | None:
        """Return the messages after ``position``, or None as :meth:`follow` says. A crowd that comes back shares them."""
        recent, head = stream.recent, stream.head
        if recent is None or head - position > PAGE or not recent.reaches(position):
            return None
        shared = self._shared.get(stream.id)
        # An erasure gives the stream another memory.
        if shared is not None and shared.recent is recent and (shared.position, shared.head) == (position, head):
            return shared.batch
        frames = recent.frames_after(position)
        if sum(map(len, frames)) > CHUNK_BYTES:
            return None
        batch = Batch(frames).prepared()
        if len(frames) > 1:
            if len(self._shared) >= SHARED:
                self._shared.clear()
            self._shared[stream.id] = _Shared(recent, position, head, batch)
        return batch

    async def replay(
        self, client: ClientState, stream: Stream, position: int, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Send the messages after ``position``, then make ``client`` a member in the same loop turn as the last of them.

        The last messages come from memory and without a wait, so none is left out or sent twice. It ends early once
        ``wanted`` returns False. Raises ``Closing`` when the socket takes nothing in time, or when messages were pruned
        before they were sent.
        """
        with self._streams.kept(stream):
            while wanted() and not client.writer.closed:
                if self._hub.streams.get(stream.id) is not stream:
                    raise Closing(SLOW, pruned(Address(stream.room, stream.channel)))
                if self.follow(client, stream, position):
                    return
                recent = stream.recent_after(position)
                if recent is None:
                    recent = await self._pages.read(stream, position)
                    if not wanted() or client.writer.closed:
                        return
                if not recent or recent[0][0] != position + 1:
                    raise Closing(SLOW, pruned(Address(stream.room, stream.channel)))
                size = 0
                for seq, frame in recent:
                    client.writer.send(frame)
                    position = seq
                    size += len(frame)
                    if size > CHUNK_BYTES:
                        client.writer.flush()
                        await _drained(client)
                        if not wanted() or not self._open(client, stream):
                            break
                        size = 0
                client.writer.flush()
                await _drained(client)

    def _open(self, client: ClientState, stream: Stream) -> bool:
        """Return whether the connection is still open and the stream is still the log's."""
        return not client.writer.closed and self._hub.streams.get(stream.id) is stream


class Pages:
    """Reads pages of logs. Replays of the same page share one read, and for a moment its result."""

    def __init__(self, runtime: Runtime, hub: Hub, streams: Streams) -> None:
        self._run = runtime.run_watcher
        self._hub = hub
        self._streams = streams
        # By log, epoch and first position.
        self._kept: dict[tuple[int, str, int], asyncio.Task[Rows]] = {}
        self._bytes = 0

    async def read(self, stream: Stream, position: int) -> Rows:
        """Return messages after ``position`` up to the stream's head. Those that fit fill the stream's memory, too."""
        start = position - position % PAGE
        key = (stream.id, stream.epoch, start)
        page = self._kept.get(key)
        if page is None:
            page = self._kept[key] = self._streams.spawn(self._read(stream.id, start))
            complete = start + PAGE <= stream.head
            page.add_done_callback(lambda done: self._keep(key, done, complete=complete))
        rows = await asyncio.shield(page)
        rows = [row for row in rows if row[0] <= stream.head]
        self._hub.prime(stream, rows)
        behind = [row for row in rows if row[0] > position]
        if behind or not rows or rows[-1][0] - start >= PAGE:
            return behind
        # Large messages: the shared page ends before the position.
        rows = await self._run(log.read_after, stream.id, position, PAGE, PAGE_BYTES)
        return [row for row in rows if row[0] <= stream.head]

    async def _read(self, stream_id: int, start: int) -> Rows:
        while True:
            try:
                return await self._run(log.read_after, stream_id, start, PAGE, PAGE_BYTES)
            except DatabaseError:
                # The clients stay connected meanwhile. The heartbeat logs that the database is away.
                await asyncio.sleep(0.5)

    def _keep(self, key: tuple[int, str, int], done: asyncio.Task[Rows], *, complete: bool) -> None:
        size = 0 if done.cancelled() or done.exception() else sum(len(frame) for _, frame in done.result())
        if not size or not complete or self._bytes + size > PAGES_BYTES:
            self._kept.pop(key, None)
            return
        self._bytes += size
        asyncio.get_running_loop().call_later(PAGE_LIFE, self._forget, key, size)

    def _forget(self, key: tuple[int, str, int], size: int) -> None:
        self._kept.pop(key, None)
        self._bytes -= size


async def _drained(client: ClientState) -> None:
    """Wait until the socket has taken everything written to it. Raises ``Closing`` when it takes nothing in time."""
    pause, waited, last = 0.0, 0.0, client.writer.buffered()
    while True:
        await asyncio.sleep(pause)
        waiting = client.writer.buffered()
        if not waiting or client.writer.closed:
            return
        waited = 0.0 if waiting < last else waited + pause
        last = waiting
        if waited > client.writer.bounds.deadline:
            raise Closing(SLOW, BusError(ErrorCode.TOO_SLOW, retry_after=1.0))
        pause = min(0.05, pause + 0.005)


def check_since(since: int | str) -> datetime:
    """Return the time that ``since`` names; for a seq, the present.

    Raises ``BusError`` VALIDATION_ERROR for an unreadable time.
    """
    moment = parse_moment(since) if isinstance(since, str) else datetime.now(UTC)
    if moment is None:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "since", "message": "`since` must be a seq, an ISO time, or `mark`."}],
        )
    return moment
