"""The positions of this process in the logs: in order, without a hole, without a double.

Committed messages come from our own log writer, from a notification, or from a look at the log; whichever comes first counts. A
message is put on its stream when its ``seq`` is the next one. One that is early is held, and if its predecessors do not
come by themselves at once they are read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import Error as DatabaseError

from ... import log
from ...directory.channels import ChannelRef
from ...notify.broker import Broker
from ...protocol.errors import SLOW, BusError, ErrorCode
from ...protocol.names import Address
from ...realtime.hub import Hub, Member, Stream
from ..client import ClientState

logger = logging.getLogger("arqonbus.node")

Run = Callable[..., Awaitable[Any]]
Rows = list[tuple[int, bytes]]
Result = TypeVar("Result")

#: Messages read from the log in one go.
PAGE = 500
#: Messages that came before their turn, and their bytes, above which a stream holds no more of others' and reads them instead.
#: (Our own that leave somebody out are held: only we know whom. While the database is away there are none.)
HELD, HELD_BYTES = 500, 1024 * 1024
#: Notifications that crossed usually put themselves right; how long to wait for that before reading the log, in seconds.
PATIENCE = 0.02
#: A stream is compared with its log's past at most this often, in seconds.
DOUBT = 0.5


def _holds_more(stream: Stream) -> bool:
    held = stream.held
    return len(held) < HELD and sum(len(frame) for frame, _ in held.values()) < HELD_BYTES


class Vanished(BusError):
    """Raised by ``open``: a channel is not there any more."""

    def __init__(self, channel_id: int) -> None:
        self.channel_id = channel_id
        super().__init__(ErrorCode.CHANNEL_NOT_FOUND, "The channel was deleted.")


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
        self._doubted: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: set[int] = set()
        # Streams that somebody catches up with, who is not a member yet.
        self._followed: Counter[int] = Counter()
        #: Called with a log (by id) that went back, and is another one from now on.
        self.on_other_log: Callable[[int], None] = lambda stream_id: None
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
                    self.spawn(self._read_heads())
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
        elif frame:
            known = stream.memory.frame(seq) if stream.memory is not None else None
            if known != frame:
                # Usually a notification that was overtaken; or the log is not the one that we know.
                self.doubt(stream, (seq, known) if known else None)

    def _release_held(self, stream: Stream) -> None:
        self._put_held(stream)
        if stream.held:
            self._suspect(stream)

    def _put_held(self, stream: Stream) -> None:
        while (item := stream.held.pop(stream.head + 1, None)) is not None:
            self.hub.put(stream, stream.head + 1, item[0], item[1])

    def seen_head(self, stream_id: int, head: int, epoch: str) -> bool:
        """The log's head as it was read; a stream behind it missed a notification. False when the log is another one by now."""
        stream = self.hub.streams.get(stream_id)
        if stream is None or stream.head < 0:
            return True
        if stream.epoch != epoch:
            return False
        if stream.head < head:
            self._suspect(stream)
        return True

    def doubt(self, stream: Stream, seen: tuple[int, bytes] | None = None) -> None:
        """Ask whether the log still has a message that we saw there (``seen``, or else its last), and tell if it has not."""
        if stream.id not in self._doubted and stream.head >= 0:
            self._doubted.add(stream.id)
            last = stream.memory.frame(stream.head) if stream.memory is not None else None
            self.spawn(self._compare(stream, *(seen or (stream.head, last))))

    async def _compare(self, stream: Stream, seq: int, frame: bytes | None) -> None:
        try:
            if await self._run(log.went_back, stream.id, stream.epoch, seq, frame):
                logger.error(
                    "%s:%s went back: message %d, which was in it, is not; it has a new epoch",
                    stream.room,
                    stream.channel,
                    seq,
                    extra={"event": "log_went_back", "channel_id": stream.id},
                )
                self.on_other_log(stream.id)
            # Overtaken notifications come in swarms.
            await asyncio.sleep(DOUBT)
        except DatabaseError:
            pass  # The next look at the log asks again.
        finally:
            self._doubted.discard(stream.id)

    def _suspect(self, stream: Stream) -> None:
        if stream.id not in self._repairing:
            self._repairing.add(stream.id)
            self.spawn(self._repair(stream))

    async def _repair(self, stream: Stream) -> None:
        """Read what is missing between the stream's head and the log's."""
        try:
            await asyncio.sleep(PATIENCE)
            target = max(stream.held, default=stream.head)
            if self.hub.streams.get(stream.id) is not stream:
                return
            if stream.held:
                self.gaps += 1
            await self.read_on(stream)
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

    async def read_on(self, stream: Stream) -> None:
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
            self._put_held(stream)
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
            if isinstance(member, ClientState):
                member.drop(SLOW, went(address))

    # --- for those who catch up ---------------------------------------------------------------------------------------

    @contextmanager
    def kept(self, stream: Stream) -> Iterator[None]:
        """A stream that somebody catches up with stays, although it has no member yet."""
        self._followed[stream.id] += 1
        try:
            yield
        finally:
            self._followed[stream.id] -= 1
            if not self._followed[stream.id]:
                del self._followed[stream.id]

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run what reads the log beside the caller; it is held until it is done, and ends with :meth:`stop`."""
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


def went(address: Address) -> BusError:
    """The error for those whose next message the retention dropped before it reached them."""
    return BusError(
        ErrorCode.TOO_SLOW,
        f"Messages of {address} were dropped by its retention before they reached you; come back and resume.",
        retry_after=0.5,
    )
