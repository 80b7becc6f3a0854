"""The positions of this process in the logs: in order, without a hole, without a double.

Committed messages come from our own log writer, from the bell, or from a look at the log; whichever comes first counts. A
message is put on its stream when its ``seq`` is the next one. One that is early is held, and if its predecessors do not
come by themselves at once they are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import Error as DatabaseError

from .. import log
from ..broker import Broker
from ..log.store import parse_moment
from ..protocol.errors import BusError
from ..realtime.hub import Hub, Member, Stream
from ..services.channels import ChannelRef
from .peer import Peer

logger = logging.getLogger("arqonbus.node")

Run = Callable[..., Awaitable[Any]]

#: Messages read from the log in one go, and bytes written to one socket before it may take a breath.
PAGE = 500
CHUNK_BYTES = 128 * 1024
#: Crossed bells usually put themselves right; how long to wait for that before reading the log, in seconds.
PATIENCE = 0.02


class Streams:
    """The streams of a node."""

    def __init__(self, hub: Hub, broker: Broker, run: Run, settled: Callable[[], Awaitable[None]]) -> None:
        self.hub = hub
        self._broker = broker
        self._run = run
        self._settled = settled
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._to_open: list[int] = []
        # Asked for since the last `collect`: whoever asked may be about to become a member.
        self._wanted: set[int] = set()
        self._repairing: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.gaps = 0
        self.repaired = 0

    # --- opening --------------------------------------------------------------------------------------------------

    async def open(self, refs: Iterable[ChannelRef]) -> list[Stream]:
        """The streams of the channels, at a known position. Raises the database's error when it cannot be read."""
        waits = []
        streams = []
        refs = list(refs)
        self._wanted.update(ref.id for ref in refs)
        for ref in refs:
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
                self.hub.streams.pop(stream_id, None)
                future = self._opening.pop(stream_id)
                future.set_exception(problem)
                future.exception()
            return
        for stream_id in ids:
            stream = self.hub.streams.get(stream_id)
            if stream is not None:
                head, epoch = heads.get(stream_id, (0, ""))
                self.begin(stream, head, epoch)
            self._opening.pop(stream_id).set_result(None)

    def begin(self, stream: Stream, head: int, epoch: str) -> None:
        """Set the position of a stream that was opened without one."""
        stream.head = head
        stream.epoch = epoch or stream.epoch
        for seq in [seq for seq in stream.held if seq <= head]:
            del stream.held[seq]
        self._release_held(stream)

    def collect(self, idle: set[int]) -> set[int]:
        """Forget the streams that had no member at the last call either; returns those without one now."""
        empty = {
            stream_id
            for stream_id, stream in self.hub.streams.items()
            if not stream.members and not stream.held and stream_id not in self._opening
        } - self._wanted
        self._wanted.clear()
        for stream_id in empty & idle:
            self.hub.discard_if_empty(self.hub.streams[stream_id])
        return empty - idle

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
            if frame:
                stream.held[seq] = (frame, exclude)
            if head >= 0:
                self._suspect(stream)

    def _release_held(self, stream: Stream) -> None:
        while (item := stream.held.pop(stream.head + 1, None)) is not None:
            self.hub.put(stream, stream.head + 1, item[0], item[1])
        if stream.held:
            self._suspect(stream)

    def seen_head(self, stream_id: int, head: int) -> None:
        """The log's head as somebody read it; a stream behind it has lost a bell."""
        stream = self.hub.streams.get(stream_id)
        if stream is not None and 0 <= stream.head < head:
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
            while True:
                before = stream.head
                rows = await self._run(log.read_after, stream.id, before, PAGE)
                # Our own commits whose callback is on its way know whom to leave out; let them come first.
                await self._settled()
                for seq, frame in rows:
                    if seq > stream.head:
                        # A jump here is not a hole: what lies before was committed earlier and is pruned by now.
                        held = stream.held.pop(seq, None)
                        self.hub.put(stream, seq, frame, held[1] if held else None)
                        self.repaired += 1
                for seq in [seq for seq in stream.held if seq <= stream.head]:
                    del stream.held[seq]
                self._release_held_quietly(stream)
                if len(rows) < PAGE:
                    break
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

    def _release_held_quietly(self, stream: Stream) -> None:
        while (item := stream.held.pop(stream.head + 1, None)) is not None:
            self.hub.put(stream, stream.head + 1, item[0], item[1])

    # --- catching up ------------------------------------------------------------------------------------------------

    async def recover(self, stream: Stream, since: int | str, epoch: str | None) -> tuple[int, bool, int | None]:
        """From where a client that was at ``since`` goes on: ``(position, recovered, first seq left)``.

        ``since`` is a seq or an ISO time. Raises ``BusError`` VALIDATION_ERROR for a time that is none.
        """
        if isinstance(since, str):
            moment = parse_moment(since)
            if moment is None:
                raise BusError(
                    "VALIDATION_ERROR",
                    details=[{"field": "since", "message": "`since` is a seq or an ISO time."}],
                )
            if moment > datetime.now(UTC):
                return stream.head, True, None
            position: int = await self._run(log.seq_at, stream.id, moment)
            return position, True, None
        same = epoch is None or epoch in ("", stream.epoch)
        if same and since <= stream.head and stream.recent(since) is not None:
            return since, True, None
        first: int | None = await self._run(log.first_seq, stream.id)
        left = first if first is not None else stream.head + 1
        if same and left - 1 <= since <= stream.head:
            return since, True, None
        return left - 1, False, left

    async def replay(self, peer: Peer, stream: Stream, position: int) -> None:
        """Send what comes after ``position``, then make ``peer`` a member in the same loop turn as the last of it.

        The last step comes from memory and without a wait, so nothing can slip in between: no hole and no double.
        """
        while True:
            recent = stream.recent(position)
            if recent is not None and len(recent) <= PAGE and sum(len(frame) for _, frame in recent) <= CHUNK_BYTES:
                for _, frame in recent:
                    peer.writer.send(frame)
                peer.writer.flush()
                self.hub.add(stream, peer)
                return
            if recent is None:
                rows = await self._run(log.read_after, stream.id, position, PAGE)
                recent = [row for row in rows if row[0] <= stream.head]
                if not recent:
                    # Between the position and this process's head nothing is left: it was pruned.
                    position = stream.head
                    continue
            size = 0
            for seq, frame in recent:
                peer.writer.send(frame)
                position = seq
                size += len(frame)
                if size > CHUNK_BYTES:
                    break
            peer.writer.flush()
            await self._breathe(peer)

    async def _breathe(self, peer: Peer) -> None:
        """Wait until the socket took most of what it was given. Raises ``BusError`` TOO_SLOW when it takes nothing in time."""
        pause, waited, last = 0.0, 0.0, peer.writer.buffered()
        while True:
            await asyncio.sleep(pause)
            waiting = peer.writer.buffered()
            if waiting < CHUNK_BYTES or peer.writer.closed:
                return
            waited = 0.0 if waiting < last else waited + pause
            last = waiting
            if waited > peer.writer.bounds.deadline:
                raise BusError("TOO_SLOW")
            pause = min(0.05, pause + 0.005)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Cancel what still reads."""
        for task in self._tasks:
            task.cancel()
