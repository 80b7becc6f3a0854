"""The streams of this process: each delivers one log in order, without a hole and without a repetition.

A committed message comes from this process's log writer, from another process's notification, or from reading the log.
The first of them counts. A message is delivered when its ``seq`` is the next one. An early message is kept, and if its
predecessors do not arrive at once they are read from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import Error as DatabaseError

from ... import log
from ...directory.channels import ChannelRef
from ...log import Position
from ...log.effects import StreamState
from ...protocol.amending import ErasedMessage, erased_notice
from ...protocol.errors import SLOW, BusError, ErrorCode
from ...protocol.names import Address
from ...realtime.frame import LoggedFrame
from ...realtime.hub import Delivery, Hub, Member, Stream
from ...services import streams as streamed
from ..client import ClientState
from ..interest import Interest
from ..runtime import Run
from ..threads import unavailable

logger = logging.getLogger("arqonbus.node")

Rows = list[LoggedFrame]

#: Erased messages that a process remembers to have told of.
MOST_TOLD = 20_000
Result = TypeVar("Result")

#: Messages read from the log at once.
PAGE = 500
#: Early messages, and their bytes, above which a stream keeps no more of other processes' and reads them later instead.
#: A message of this process that leaves out its sender is always kept, because the log does not say whom it leaves out.
EARLY, EARLY_BYTES = 500, 1024 * 1024
#: Seconds to wait for the missing predecessors before the log is read. Notifications that crossed usually arrive by then.
PATIENCE = 0.02
#: Least seconds between two comparisons of a stream with its log's past.
COMPARE_PAUSE = 0.5


def _keeps_more(stream: Stream) -> bool:
    early = stream.early
    return len(early) < EARLY and sum(len(delivery.frame) for delivery in early.values()) < EARLY_BYTES


class Vanished(BusError):
    """Raised by :meth:`Streams.open` for a channel that no longer exists."""

    def __init__(self, channel_id: int) -> None:
        self.channel_id = channel_id
        super().__init__(ErrorCode.CHANNEL_NOT_FOUND, "The channel was deleted.")


class Streams:
    """The streams of a node, in its hub.

    ``run`` reads the log in a database thread. ``own_delivered`` returns when this process's own commits are delivered.
    ``forget`` is called with the address of a channel that no longer exists.
    """

    def __init__(
        self,
        hub: Hub,
        interest: Interest,
        run: Run,
        own_delivered: Callable[[], Awaitable[None]],
        forget: Callable[[Address], None],
    ) -> None:
        self.hub = hub
        self._interest = interest
        self._run = run
        self._own_delivered = own_delivered
        self._forget = forget
        self._opening: dict[int, asyncio.Future[None]] = {}
        self._to_open: list[int] = []
        self._repairing: set[int] = set()
        self._comparing: set[int] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle: set[int] = set()
        # Readers that catch up with each stream and are no members yet.
        self._readers: Counter[int] = Counter()
        #: Called with a stream that begins, and with the streamed messages that grow in its log.
        self.on_open: Callable[[Stream, list[StreamState]], None] = lambda stream, growing: None
        #: Called with the id of a log that lost messages and therefore has a new epoch.
        self.on_other_log: Callable[[int], None] = lambda stream_id: None
        #: Called after messages were erased.
        self.on_erased: Callable[[], None] = lambda: None
        #: The erased messages that members were told of, each with the id of its log.
        self.told_erased: set[tuple[int, int]] = set()
        #: Holes that were found, and messages that were read from the log to fill them.
        self.gaps = self.repaired = 0

    # --- opening --------------------------------------------------------------------------------------------------

    async def open(self, refs: Iterable[ChannelRef]) -> list[Stream]:
        """Return the streams of the channels, each with a known position.

        Raises ``BusError`` UNAVAILABLE, and :class:`Vanished` for a channel that no longer exists.
        """
        refs = list(refs)
        try:
            return await self._open(refs)
        except DatabaseError:
            raise unavailable() from None
        except Vanished as vanished:
            for ref in refs:
                if ref.id == vanished.channel_id:
                    self._forget(ref.address)
            raise

    def ready(self, refs: Sequence[ChannelRef]) -> list[Stream]:
        """Return those of the streams that :meth:`open` would return without waiting."""
        self._idle.difference_update(ref.id for ref in refs)
        opened = (self.hub.stream(ref.id) for ref in refs if ref.id not in self._opening)
        return [stream for stream in opened if stream is not None]

    async def _open(self, refs: Sequence[ChannelRef]) -> list[Stream]:
        waits = []
        streams = []
        for ref in refs:
            self._idle.discard(ref.id)
            stream = self.hub.stream(ref.id)
            if stream is None:
                await self._interest.in_log(ref)
                stream = self.hub.stream(ref.id)
            if stream is None:
                # Opened before its head is read: a commit from now on is kept as early, an older one is in the head.
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
            heads, growing = await self._run(_positions, ids)
        except Exception as problem:  # noqa: BLE001 - raised at every caller that waits for it
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
                self._begin(stream, heads[stream_id], growing.get(stream_id, []))
            future.set_result(None)

    def _begin(self, stream: Stream, place: Position, growing: list[StreamState]) -> None:
        """Set the position of a stream that was opened without one, and deliver its early messages."""
        stream.head = place.head
        stream.epoch = place.epoch or stream.epoch
        for seq in [seq for seq in stream.early if seq <= place.head]:
            del stream.early[seq]
        self.on_open(stream, growing)
        self._deliver_early(stream)

    def collect(self) -> None:
        """Forget each stream that had no member at the last call either, and that was not opened again since."""
        empty = {
            stream_id
            for stream_id, stream in self.hub.streams.items()
            if not (stream.audience() or stream.early or stream_id in self._opening or stream_id in self._readers)
        }
        for stream_id in empty & self._idle:
            self.hub.discard_if_empty(self.hub.streams[stream_id])
        self._idle = empty - self._idle
        self._interest.collect()

    # --- what was committed -----------------------------------------------------------------------------------------

    def committed(self, stream_id: int, seq: int, frame: bytes, exclude: Member | None = None) -> None:
        """Deliver a committed message, or keep it until its turn. An empty ``frame`` has to be read from the log."""
        stream = self.hub.streams.get(stream_id)
        if stream is None:
            return
        head = stream.head
        if seq == head + 1 and head >= 0 and frame:
            self.hub.put(stream, seq, frame, exclude)
            if stream.early:
                self._deliver_early(stream)
        elif seq > head:
            if frame and (exclude is not None or _keeps_more(stream)):
                stream.early[seq] = Delivery(frame, exclude)
            if head >= 0:
                self._repair_soon(stream)
        elif frame:
            known = stream.recent.frame(seq) if stream.recent is not None else None
            if known != frame:
                # Usually a notification that was overtaken. Otherwise the log is another one than the stream's.
                self.compare(stream, LoggedFrame(seq, known) if known else None)

    def _deliver_early(self, stream: Stream) -> None:
        self._put_early(stream)
        if stream.early:
            self._repair_soon(stream)

    def _put_early(self, stream: Stream) -> None:
        while (item := stream.early.pop(stream.head + 1, None)) is not None:
            self.hub.put(stream, stream.head + 1, item.frame, item.exclude)

    def compare_head(self, place: Position) -> bool:
        """Compare a stream with its log's position and read what it lacks. Return False when the log has another epoch."""
        stream = self.hub.streams.get(place.id)
        if stream is None or stream.head < 0:
            return True
        if stream.epoch != place.epoch:
            return False
        if stream.head < place.head:
            self._repair_soon(stream)
        return True

    def compare(self, stream: Stream, seen: LoggedFrame | None = None) -> None:
        """Check that the log still has a message that was seen in it: ``seen``, else the stream's last one.

        If it has not, ``on_other_log`` is called.
        """
        if stream.id not in self._comparing and stream.head >= 0:
            self._comparing.add(stream.id)
            last = stream.recent.frame(stream.head) if stream.recent is not None else None
            self.spawn(self._compare(stream, *(seen or (stream.head, last))))

    async def _compare(self, stream: Stream, seq: int, frame: bytes | None) -> None:
        try:
            if await self._run(log.went_back, stream.id, stream.epoch, seq, frame):
                logger.error(
                    "the log of %s:%s lost message %d, which it had before; it gets a new epoch",
                    stream.room,
                    stream.channel,
                    seq,
                    extra={"event": "log_went_back", "channel_id": stream.id},
                )
                self.on_other_log(stream.id)
            # Overtaken notifications come in swarms.
            await asyncio.sleep(COMPARE_PAUSE)
        except DatabaseError:
            pass  # The next comparison asks again.
        finally:
            self._comparing.discard(stream.id)

    def _repair_soon(self, stream: Stream) -> None:
        if stream.id not in self._repairing:
            self._repairing.add(stream.id)
            self.spawn(self._repair(stream))

    async def _repair(self, stream: Stream) -> None:
        """Read what is missing between the stream's head and the log's."""
        try:
            await asyncio.sleep(PATIENCE)
            target = max(stream.early, default=stream.head)
            if self.hub.streams.get(stream.id) is not stream:
                return
            if stream.early:
                self.gaps += 1
            await self.read_on(stream)
            if stream.head < target and stream.early:
                await asyncio.sleep(0.1)
        except DatabaseError as problem:
            logger.warning(
                "missed messages wait for the database: %s",
                problem,
                extra={"event": "repair_waits", "channel_id": stream.id},
            )
            await asyncio.sleep(0.5)
        finally:
            self._repairing.discard(stream.id)
            if stream.early and self.hub.streams.get(stream.id) is stream:
                self._repair_soon(stream)

    async def read_on(self, stream: Stream) -> None:
        """Deliver everything up to the head of the log. Raises the database's error."""
        while True:
            rows = await self._run(log.read_after, stream.id, stream.head, PAGE)
            # Let this process's own commits come first: only they know whom to leave out.
            await self._own_delivered()
            for seq, frame in rows:
                if seq <= stream.head:
                    continue
                if seq > stream.head + 1:
                    self._close_members(stream, seq)
                early = stream.early.pop(seq, None)
                self.hub.put(stream, seq, frame, early.exclude if early else None)
                self.repaired += 1
            for seq in [seq for seq in stream.early if seq <= stream.head]:
                del stream.early[seq]
            self._put_early(stream)
            if len(rows) < PAGE:
                return

    def _close_members(self, stream: Stream, seq: int) -> None:
        """Close the members: the messages between the head and ``seq`` were pruned before they reached this process."""
        address = Address(stream.room, stream.channel)
        logger.warning(
            "the retention removed messages %d to %d of %s before their delivery",
            stream.head + 1,
            seq - 1,
            address,
            extra={"event": "pruned_undelivered", "channel_id": stream.id},
        )
        self.hub.forget_recent(stream)
        for member in stream.audience():
            if isinstance(member, ClientState):
                member.drop(SLOW, pruned(address))

    def erased(self, stream_id: int, messages: Sequence[ErasedMessage]) -> None:
        """Forget the content of erased messages, and tell the members of them once."""
        self.forget_erased(stream_id, [message.seq for message in messages])
        fresh = [message for message in messages if (stream_id, message.seq) not in self.told_erased]
        if len(self.told_erased) > MOST_TOLD:
            self.told_erased.clear()
        self.told_erased.update((stream_id, message.seq) for message in fresh)
        stream = self.hub.streams.get(stream_id)
        if stream is not None and fresh:
            self.hub.broadcast(stream, erased_notice(Address(stream.room, stream.channel), fresh))

    def forget_erased(self, stream_id: int, seqs: Iterable[int]) -> None:
        """Forget the content of erased messages of a log. Whoever needs one reads it from the log, where it has no content."""
        self.on_erased()
        stream = self.hub.streams.get(stream_id)
        if stream is not None:
            self.hub.forget_recent(stream)
            early = [seq for seq in seqs if stream.early.pop(seq, None) is not None]
            if early and stream.head >= 0:
                self._repair_soon(stream)

    # --- catching up ---------------------------------------------------------------------------------------

    @contextmanager
    def kept(self, stream: Stream) -> Iterator[None]:
        """Keep a stream in the hub while a reader catches up with it, although it has no member yet."""
        self._readers[stream.id] += 1
        try:
            yield
        finally:
            self._readers[stream.id] -= 1
            if not self._readers[stream.id]:
                del self._readers[stream.id]

    def spawn(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run a task that reads the log beside the caller. It is cancelled by :meth:`stop`."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @property
    def working(self) -> int:
        """How many tasks read the log at this moment."""
        return len(self._tasks)

    def stop(self) -> None:
        """Cancel the tasks that still read the log."""
        for task in self._tasks:
            task.cancel()


def _positions(ids: Sequence[int]) -> tuple[dict[int, Position], dict[int, list[StreamState]]]:
    """Return the positions of logs, and then the streamed messages that grow in them."""
    places = log.heads(ids)
    growing: dict[int, list[StreamState]] = {}
    for state in streamed.open_in(ids):
        growing.setdefault(state.channel_id, []).append(state)
    return places, growing


def pruned(address: Address) -> BusError:
    """Return the error for a client whose next message was pruned by the retention before it was delivered."""
    return BusError(
        ErrorCode.TOO_SLOW,
        f"The retention of {address} removed messages before you received them. Reconnect and resume.",
        retry_after=0.5,
    )


def rebuilt() -> BusError:
    """Return the error for a member of a log that has a new epoch. A client that resumes gets ``recovered: false``."""
    return BusError(ErrorCode.RESTARTING, "The log was recreated. Reconnect.", retry_after=0.5)
