"""The positions of this process in the logs: in order, without a hole, without a double.

Committed messages come from our own log writer, from the bell, or from a look at the log; whichever comes first counts. A
message is put on its stream when its ``seq`` is the next one. One that is early is held, and if its predecessors do not
come by themselves at once they are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import UTC, datetime
from typing import Any, TypeVar

from django.db import Error as DatabaseError

from .. import log
from ..broker import Broker
from ..log.store import parse_moment
from ..protocol.errors import SLOW, BusError, Closing
from ..protocol.names import Address
from ..realtime.hub import Hub, Member, Stream
from ..services.channels import ChannelRef
from .peer import Peer

logger = logging.getLogger("arqonbus.node")

Run = Callable[..., Awaitable[Any]]
Rows = list[tuple[int, bytes]]
Result = TypeVar("Result")

#: Messages read from the log in one go, and bytes written to one socket before it may take a breath.
PAGE = 500
CHUNK_BYTES = 128 * 1024
#: Bytes of one page: with large messages it has fewer of them.
PAGE_BYTES = 4 * 1024 * 1024
#: Pages that were read for one client are kept so long for others that come back with it, in seconds, and so many bytes of them.
PAGE_LIFE = 5.0
PAGES_BYTES = 16 * 1024 * 1024
#: Messages that came before their turn, and their bytes, above which a stream holds no more of others' and reads them instead.
#: (Our own that leave somebody out are held: only we know whom. While the database is away there are none.)
HELD, HELD_BYTES = 500, 1024 * 1024
#: Crossed bells usually put themselves right; how long to wait for that before reading the log, in seconds.
PATIENCE = 0.02


def _holds_more(stream: Stream) -> bool:
    held = stream.held
    return len(held) < HELD and sum(len(frame) for frame, _ in held.values()) < HELD_BYTES


class Vanished(BusError):
    """Raised by ``open``: a channel is not there any more."""

    def __init__(self, channel_id: int) -> None:
        self.channel_id = channel_id
        super().__init__("CHANNEL_NOT_FOUND", "The channel was deleted.")


class Streams:
    """The streams of a node.

    ``run`` calls the log in a database thread, ``settled`` returns when our own commits are delivered.
    """

    def __init__(self, hub: Hub, broker: Broker, run: Run, settled: Callable[[], Awaitable[None]]) -> None:
        self.hub = hub
        self._broker = broker
        self._run = run
        self._settled = settled
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._to_open: list[int] = []
        self._repairing: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: set[int] = set()
        # Streams that somebody catches up with, who is not a member yet.
        self._followed: Counter[int] = Counter()
        self._pages: dict[tuple[int, int], asyncio.Task[Rows]] = {}
        self._pages_bytes = 0
        self.gaps = 0
        self.repaired = 0

    # --- opening --------------------------------------------------------------------------------------------------

    async def open(self, refs: Iterable[ChannelRef]) -> list[Stream]:
        """The streams of the channels, at a known position.

        Raises the database's error when it cannot be read, and :class:`Vanished`.
        """
        waits = []
        streams = []
        for ref in refs:
            self._idle.discard(ref.id)
            stream = self.hub.stream(ref.id)
            if stream is None:
                await self._broker.subscribe(ref.id)
                stream = self.hub.stream(ref.id)
            if stream is None:
                # Registered before the head is read: what is committed from now on is held, what was before is in the head.
                stream = self.hub.open(ref.id, ref.address.room, ref.address.channel, ref.epoch, -1)
                self._opening[ref.id] = asyncio.get_running_loop().create_future()
                self._to_open.append(ref.id)
                if len(self._to_open) == 1:
                    self._spawn(self._read_heads())
            if ref.id in self._opening:
                waits.append(self._opening[ref.id])
            streams.append(stream)
        for wait in waits:
            await asyncio.shield(wait)
        return streams

    async def _read_heads(self) -> None:
        await asyncio.sleep(0)
        ids, self._to_open = self._to_open, []
        try:
            heads = await self._run(log.heads, ids)
        except Exception as problem:  # noqa: BLE001 - passed on to everyone who waits for it
            for stream_id in ids:
                self.hub.discard(stream_id)
                future = self._opening.pop(stream_id)
                future.set_exception(problem)
                future.exception()
            return
        for stream_id in ids:
            future = self._opening.pop(stream_id)
            if stream_id not in heads:
                self.hub.discard(stream_id)
                future.set_exception(Vanished(stream_id))
                future.exception()
                continue
            stream = self.hub.streams.get(stream_id)
            if stream is not None:
                self.begin(stream, *heads[stream_id])
            future.set_result(None)

    def begin(self, stream: Stream, head: int, epoch: str) -> None:
        """Set the position of a stream that was opened without one."""
        stream.head = head
        stream.epoch = epoch or stream.epoch
        for seq in [seq for seq in stream.held if seq <= head]:
            del stream.held[seq]
        self._release_held(stream)

    def collect(self) -> None:
        """Forget the streams that had no member at the last call either, and that nobody asked for since."""
        empty = {
            stream_id
            for stream_id, stream in self.hub.streams.items()
            if not (stream.members or stream.held or stream_id in self._opening or stream_id in self._followed)
        }
        for stream_id in empty & self._idle:
            self.hub.discard_if_empty(self.hub.streams[stream_id])
        self._idle = empty - self._idle

    # --- what was committed -----------------------------------------------------------------------------------------

    def committed(self, stream_id: int, seq: int, frame: bytes, exclude: Member | None = None) -> None:
        """A message of the log, from whoever tells us first; an empty ``frame`` is one to be read."""
        stream = self.hub.streams.get(stream_id)
        if stream is None:
            return
        head = stream.head
        if seq == head + 1 and head >= 0 and frame:
            self.hub.put(stream, seq, frame, exclude)
            if stream.held:
                self._release_held(stream)
        elif seq > head:
            if frame and (exclude is not None or _holds_more(stream)):
                stream.held[seq] = (frame, exclude)
            if head >= 0:
                self._suspect(stream)

    def _release_held(self, stream: Stream) -> None:
        while (item := stream.held.pop(stream.head + 1, None)) is not None:
            self.hub.put(stream, stream.head + 1, item[0], item[1])
        if stream.held:
            self._suspect(stream)

    def seen_head(self, stream_id: int, head: int, epoch: str) -> bool:
        """The log's head as somebody read it; a stream behind it has lost a bell. False when the log is another one by now."""
        stream = self.hub.streams.get(stream_id)
        if stream is None or stream.head < 0:
            return True
        if stream.epoch != epoch:
            return False
        if stream.head < head:
            self._suspect(stream)
        return True

    def suspect_all(self) -> None:
        """Compare every stream with the log, since bells may have been lost."""
        for stream in self.hub.streams.values():
            if stream.head >= 0:
                self._suspect(stream)

    def _suspect(self, stream: Stream) -> None:
        if stream.id not in self._repairing:
            self._repairing.add(stream.id)
            self._spawn(self._repair(stream))

    async def _repair(self, stream: Stream) -> None:
        """Read what is missing between the stream's head and the log's."""
        try:
            await asyncio.sleep(PATIENCE)
            target = max(stream.held, default=stream.head)
            if self.hub.streams.get(stream.id) is not stream:
                return
            if stream.held:
                self.gaps += 1
            await self._read_on(stream)
            if stream.head < target and stream.held:
                await asyncio.sleep(0.1)
        except DatabaseError as problem:
            logger.warning(
                "repair waits for the store: %s",
                problem,
                extra={"event": "repair_waits", "channel_id": stream.id},
            )
            await asyncio.sleep(0.5)
        finally:
            self._repairing.discard(stream.id)
            if stream.held and self.hub.streams.get(stream.id) is stream:
                self._suspect(stream)

    async def _read_on(self, stream: Stream) -> None:
        """Bring the stream to the head of the log. Raises the database's error."""
        while True:
            rows = await self._run(log.read_after, stream.id, stream.head, PAGE)
            # Our own commits whose callback is on its way know whom to leave out; let them come first.
            await self._settled()
            for seq, frame in rows:
                if seq <= stream.head:
                    continue
                if seq > stream.head + 1:
                    self._missed(stream, seq)
                held = stream.held.pop(seq, None)
                self.hub.put(stream, seq, frame, held[1] if held else None)
                self.repaired += 1
            for seq in [seq for seq in stream.held if seq <= stream.head]:
                del stream.held[seq]
            while (item := stream.held.pop(stream.head + 1, None)) is not None:
                self.hub.put(stream, stream.head + 1, item[0], item[1])
            if len(rows) < PAGE:
                return

    def _missed(self, stream: Stream, seq: int) -> None:
        """What lies between the head and ``seq`` was pruned before it came here: members have to hear of it."""
        address = Address(stream.room, stream.channel)
        logger.warning(
            "messages %d to %d of %s were pruned before they were delivered",
            stream.head + 1,
            seq - 1,
            address,
            extra={"event": "pruned_undelivered", "channel_id": stream.id},
        )
        self.hub.forget_recent(stream)
        for member in stream.members:
            if isinstance(member, Peer):
                member.drop(SLOW, _went(address))

    # --- catching up ------------------------------------------------------------------------------------------------

    async def recover(self, stream: Stream, since: int | str, epoch: str | None) -> tuple[int, bool, int | None]:
        """From where a client that was at ``since`` goes on: ``(position, recovered, first seq left)``.

        ``since`` is a seq or an ISO time. Raises ``BusError`` VALIDATION_ERROR for a time that is none, and the database's error.
        """
        if isinstance(since, str):
            return await self._recover_since(stream, since)
        same = not epoch or epoch == stream.epoch
        if same and since > stream.head:
            # It was further on in another process, whose bells are still on their way to us.
            await self._read_on(stream)
        if same and since <= stream.head and stream.recent(since) is not None:
            return since, True, None
        first: int | None = await self._run(log.first_seq, stream.id)
        left = first if first is not None else stream.head + 1
        if same and left - 1 <= since <= stream.head:
            return since, True, None
        return left - 1, False, left

    async def _recover_since(self, stream: Stream, since: str) -> tuple[int, bool, int | None]:
        moment = check_since(since)
        if moment > datetime.now(UTC):
            return stream.head, True, None
        position: int = await self._run(log.seq_before, stream.id, moment)
        if position > stream.head:
            await self._read_on(stream)
        first: int | None = await self._run(log.first_seq, stream.id)
        left = first if first is not None else stream.head + 1
        if position < left and left > 1:
            # Whether there were messages between that time and the first one that is left, nobody knows any more.
            return left - 1, False, left
        return position, True, None

    def follow(self, peer: Peer, stream: Stream, position: int) -> bool:
        """Send what comes after ``position`` from memory and make ``peer`` a member; False when that is too much for one go."""
        recent = stream.recent(position)
        if recent is None or len(recent) > PAGE or sum(len(frame) for _, frame in recent) > CHUNK_BYTES:
            return False
        for _, frame in recent:
            peer.writer.send(frame)
        peer.writer.flush()
        self.hub.add(stream, peer)
        return True

    async def replay(
        self, peer: Peer, stream: Stream, position: int, wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """Send what comes after ``position``, then make ``peer`` a member in the same loop turn as the last of it.

        The last step comes from memory and without a wait, so nothing can slip in between: no hole and no double.
        It ends early once ``wanted`` says no. Raises ``Closing`` when the peer takes nothing in time, or when the
        retention was quicker than the peer.
        """
        self._followed[stream.id] += 1
        try:
            while wanted() and not peer.writer.closed:
                if self.hub.streams.get(stream.id) is not stream:
                    raise Closing(SLOW, _went(Address(stream.room, stream.channel)))
                if self.follow(peer, stream, position):
                    return
                recent = stream.recent(position)
                if recent is None:
                    recent = await self._page(stream, position)
                    if not wanted() or peer.writer.closed:
                        return
                if not recent or recent[0][0] != position + 1:
                    raise Closing(SLOW, _went(Address(stream.room, stream.channel)))
                size = 0
                for seq, frame in recent:
                    peer.writer.send(frame)
                    position = seq
                    size += len(frame)
                    if size > CHUNK_BYTES:
                        peer.writer.flush()
                        await self._breathe(peer)
                        if not wanted() or not self._open(peer, stream):
                            break
                        size = 0
                peer.writer.flush()
                await self._breathe(peer)
        finally:
            self._followed[stream.id] -= 1
            if not self._followed[stream.id]:
                del self._followed[stream.id]

    def _open(self, peer: Peer, stream: Stream) -> bool:
        """Whether there is still somebody to send to, and the same log to send from."""
        return not peer.writer.closed and self.hub.streams.get(stream.id) is stream

    async def _page(self, stream: Stream, position: int) -> Rows:
        """Messages behind ``position`` up to the stream's head, from the log; who asks for the same page shares the reading."""
        start = position - position % PAGE
        key = (stream.id, start)
        page = self._pages.get(key)
        if page is None:
            page = self._pages[key] = self._spawn(self._read_page(stream.id, start))
            complete = start + PAGE <= stream.head
            page.add_done_callback(lambda done: self._keep_page(key, done, complete=complete))
        rows = await asyncio.shield(page)
        rows = [row for row in rows if row[0] <= stream.head]
        self.hub.prime(stream, rows)
        behind = [row for row in rows if row[0] > position]
        if behind or not rows or rows[-1][0] - start >= PAGE:
            return behind
        # Large messages: the shared page ends before the position.
        rows = await self._run(log.read_after, stream.id, position, PAGE, PAGE_BYTES)
        return [row for row in rows if row[0] <= stream.head]

    async def _read_page(self, stream_id: int, start: int) -> Rows:
        while True:
            try:
                rows: Rows = await self._run(log.read_after, stream_id, start, PAGE, PAGE_BYTES)
                return rows
            except DatabaseError:
                # Who waits for it is connected and stays so; the heartbeat says that the store is away.
                await asyncio.sleep(0.5)

    def _keep_page(self, key: tuple[int, int], done: asyncio.Task[Rows], *, complete: bool) -> None:
        size = 0 if done.cancelled() or done.exception() else sum(len(frame) for _, frame in done.result())
        if not size or not complete or self._pages_bytes + size > PAGES_BYTES:
            self._pages.pop(key, None)
            return
        self._pages_bytes += size
        asyncio.get_running_loop().call_later(PAGE_LIFE, self._forget_page, key, size)

    def _forget_page(self, key: tuple[int, int], size: int) -> None:
        self._pages.pop(key, None)
        self._pages_bytes -= size

    async def _breathe(self, peer: Peer) -> None:
        """Wait until the socket took what it was given. Raises ``Closing`` when it takes nothing in time."""
        pause, waited, last = 0.0, 0.0, peer.writer.buffered()
        while True:
            await asyncio.sleep(pause)
            waiting = peer.writer.buffered()
            if not waiting or peer.writer.closed:
                return
            waited = 0.0 if waiting < last else waited + pause
            last = waiting
            if waited > peer.writer.bounds.deadline:
                raise Closing(SLOW, BusError("TOO_SLOW", retry_after=1.0))
            pause = min(0.05, pause + 0.005)

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def working(self) -> int:
        """Tasks that read the log at this moment."""
        return len(self._tasks)

    def stop(self) -> None:
        """Cancel what still reads."""
        for task in self._tasks:
            task.cancel()


def check_since(since: int | str) -> datetime:
    """The time that ``since`` names (for a seq, any). Raises ``BusError`` VALIDATION_ERROR for a text that is no time."""
    moment = parse_moment(since) if isinstance(since, str) else datetime.now(UTC)
    if moment is None:
        raise BusError(
            "VALIDATION_ERROR",
            details=[{"field": "since", "message": "`since` is a seq or an ISO time."}],
        )
    return moment


def _went(address: Address) -> BusError:
    return BusError(
        "TOO_SLOW",
        f"Messages of {address} were dropped by its retention before they reached you; come back and resume.",
        retry_after=0.5,
    )
