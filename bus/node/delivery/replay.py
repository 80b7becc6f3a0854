"""How a client catches up with a log: from where it goes on, and what it missed, up to the turn in which it becomes a member."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from django.db import Error as DatabaseError

from ... import log
from ...log.store import parse_moment
from ...protocol.errors import SLOW, BusError, Closing, ErrorCode
from ...protocol.names import Address
from ...realtime.hub import Hub, Stream
from ..client import ClientState
from .streams import PAGE, Rows, Run, Streams, went

#: Bytes written to one socket before it may take a breath.
CHUNK_BYTES = 128 * 1024
#: Bytes of one page: with large messages it has fewer of them.
PAGE_BYTES = 4 * 1024 * 1024
#: Pages that were read for one client are kept so long for others that come back with it, in seconds, and so many bytes of them.
PAGE_LIFE = 5.0
PAGES_BYTES = 16 * 1024 * 1024


class Replays:
    """Brings connections from a position in a log to its head. ``run`` calls the log in a database thread."""

    def __init__(self, hub: Hub, streams: Streams, run: Run) -> None:
        self._hub = hub
        self._streams = streams
        self._run = run
        self._pages = Pages(hub, streams, run)

    async def recover(self, stream: Stream, since: int | str, epoch: str | None) -> tuple[int, bool, int | None]:
        """From where a client that was at ``since`` goes on: ``(position, recovered, first seq left)``.

        ``since`` is a seq or an ISO time. Raises ``BusError`` VALIDATION_ERROR for a time that is none, and the database's error.
        """
        if isinstance(since, str):
            return await self._recover_since(stream, since)
        # Without an epoch a seq is taken at its word. An empty one is of a log that was not there yet: nothing was seen in it.
        same = epoch in (None, stream.epoch) or (not epoch and since == 0)
        if same and since > stream.head:
            # It was further on in another process, whose notifications are still on their way to us.
            await self._streams.read_on(stream)
        if same and since <= stream.head and stream.recent(since) is not None:
            return since, True, None
        left = await self._first_left(stream)
        if same and left - 1 <= since <= stream.head:
            return since, True, None
        return left - 1, False, left

    async def _recover_since(self, stream: Stream, since: str) -> tuple[int, bool, int | None]:
        moment = check_since(since)
        if moment > datetime.now(UTC):
            return stream.head, True, None
        position: int = await self._run(log.seq_before, stream.id, moment)
        if position > stream.head:
            await self._streams.read_on(stream)
        left = await self._first_left(stream)
        if position < left and left > 1:
            # Whether there were messages between that time and the first one that is left, nobody knows any more.
            return left - 1, False, left
        return position, True, None

    async def _first_left(self, stream: Stream) -> int:
        first: int | None = await self._run(log.first_seq, stream.id)
        return first if first is not None else stream.head + 1

    def follow(self, client: ClientState, stream: Stream, position: int) -> bool:
        """Send what comes after ``position`` from memory and make ``client`` a member; False when that is too much for one go."""
        recent = stream.recent(position)
        if recent is None or len(recent) > PAGE or sum(len(frame) for _, frame in recent) > CHUNK_BYTES:
            return False
        for _, frame in recent:
            client.writer.send(frame)
        client.writer.flush()
        self._hub.add(stream, client)
        return True

    async def replay(
        self, client: ClientState, stream: Stream, position: int, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Send what comes after ``position``, then make ``client`` a member in the same loop turn as the last of it.

        The last step comes from memory and without a wait, so nothing can slip in between: no hole and no double.
        It ends early once ``wanted`` says no. Raises ``Closing`` when the client takes nothing in time, or when the
        retention was quicker than the client.
        """
        with self._streams.kept(stream):
            while wanted() and not client.writer.closed:
                if self._hub.streams.get(stream.id) is not stream:
                    raise Closing(SLOW, went(Address(stream.room, stream.channel)))
                if self.follow(client, stream, position):
                    return
                recent = stream.recent(position)
                if recent is None:
                    recent = await self._pages.read(stream, position)
                    if not wanted() or client.writer.closed:
                        return
                if not recent or recent[0][0] != position + 1:
                    raise Closing(SLOW, went(Address(stream.room, stream.channel)))
                size = 0
                for seq, frame in recent:
                    client.writer.send(frame)
                    position = seq
                    size += len(frame)
                    if size > CHUNK_BYTES:
                        client.writer.flush()
                        await _breathe(client)
                        if not wanted() or not self._open(client, stream):
                            break
                        size = 0
                client.writer.flush()
                await _breathe(client)

    def _open(self, client: ClientState, stream: Stream) -> bool:
        """Whether there is still somebody to send to, and the same log to send from."""
        return not client.writer.closed and self._hub.streams.get(stream.id) is stream


class Pages:
    """Pages of logs: who asks for the same one shares the reading, and for a moment what was read."""

    def __init__(self, hub: Hub, streams: Streams, run: Run) -> None:
        self._hub = hub
        self._streams = streams
        self._run = run
        # By log, epoch and first position.
        self._kept: dict[tuple[int, str, int], asyncio.Task[Rows]] = {}
        self._bytes = 0

    async def read(self, stream: Stream, position: int) -> Rows:
        """Messages behind ``position`` up to the stream's head; its memory is filled with them where that fits."""
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
                rows: Rows = await self._run(log.read_after, stream_id, start, PAGE, PAGE_BYTES)
                return rows
            except DatabaseError:
                # Who waits for it is connected and stays so; the heartbeat says that the store is away.
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


def behind_floor(place: tuple[int, bool, int | None], floor: int) -> tuple[int, bool, int | None]:
    """A place as of :meth:`Replays.recover`, for somebody who is not to have what lies up to ``floor``: that is a hole, too."""
    position, _, first = place
    if position >= floor:
        return place
    return floor, False, max(first or 0, floor + 1)


async def _breathe(client: ClientState) -> None:
    """Wait until the socket took what it was given. Raises ``Closing`` when it takes nothing in time."""
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
    """The time that ``since`` names (for a seq, any). Raises ``BusError`` VALIDATION_ERROR for a text that is no time."""
    moment = parse_moment(since) if isinstance(since, str) else datetime.now(UTC)
    if moment is None:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "since", "message": "`since` is a seq or an ISO time."}],
        )
    return moment
