"""The members of this process, and the fan-out to them.

A :class:`Stream` is one log as this process sees it: its position, its recent messages and its members here. A message that is
put on a stream waits for the end of the loop turn. Then the frames of that turn are joined once, and each member's writer gets
them as one buffer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from .._speed import core
from ..protocol.names import INBOX_ROOM, WHOLE
from .frame import Batch, LoggedFrame
from .recent import RecentBudget, RecentMessages
from .writer import Writer


class Member(Protocol):
    """What the hub needs of a connection."""

    writer: Writer


class Delivery(msgspec.Struct):
    """A frame for the members of a stream; ``exclude`` is the member that does not get it, such as its sender."""

    frame: bytes
    exclude: Member | None


class Growth(Protocol):
    """What the hub needs of the streamed messages that grow in a log (``bus.realtime.growing``)."""

    def listeners(self) -> list[Member]:
        """Return those who listen to one of the messages alone."""
        ...

    def put(self, stream: Stream, seq: int, frame: bytes, exclude: Member | None) -> None:
        """Send the next message of the log to the members."""
        ...

    def fan_out(self, stream: Stream, pending: list[Delivery]) -> bool:
        """Hand waiting frames to the writers. False, and nothing done, where they are for every member alike."""
        ...

    def added(self, stream: Stream, member: Member) -> None:
        """Note a new member."""
        ...

    def removed(self, member: Member) -> None:
        """Forget a member, or a listener."""
        ...


class Stream:
    """One log as this process sees it. ``head`` is the last ``seq`` that was put on the stream here."""

    __slots__ = (
        "_scheduled", "channel", "deaf", "early", "epoch", "growing", "head", "id", "members", "pending", "recent", "room",
    )  # fmt: skip

    def __init__(self, stream_id: int, room: str, channel: str, epoch: str, head: int) -> None:
        self.id = stream_id
        self.room = room
        self.channel = channel
        self.epoch = epoch
        self.head = head
        # Each member with its writer, so that a fan-out does not touch the connection itself.
        self.members: dict[Member, Writer] = {}
        #: The recent messages up to ``head``; made with the first one.
        self.recent: RecentMessages | None = None
        #: Messages that came before their predecessors, by ``seq``.
        self.early: dict[int, Delivery] = {}
        #: Frames that wait for the end of this loop turn.
        self.pending: list[Delivery] = []
        #: The streamed messages that grow in the log; None while there are none.
        self.growing: Growth | None = None
        #: The members that get no parts of streamed messages.
        self.deaf: dict[Member, None] | None = None
        self._scheduled = False

    def audience(self) -> list[Member]:
        """Return the members, and those who listen to one streamed message alone."""
        return [*self.members, *(self.growing.listeners() if self.growing is not None else ())]

    def remembers(self, seq: int) -> bool:
        """Whether the messages after ``seq`` up to ``head`` are in memory."""
        return seq >= self.head or (self.recent is not None and self.recent.reaches(seq))

    def recent_after(self, seq: int) -> list[LoggedFrame] | None:
        """The messages after ``seq`` up to ``head`` from memory; None when memory does not reach back that far."""
        if seq >= self.head:
            return []
        return self.recent.after(seq) if self.recent is not None else None


class Hub:
    """The streams of one process and event loop. ``budget`` limits the recent messages of all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, budget: RecentBudget) -> None:
        self._loop = loop
        self._budget = budget
        self.streams: dict[int, Stream] = {}
        # The streams of whole rooms, by room: a member that leaves a room leaves them without knowing their ids.
        self._whole: dict[str, dict[int, Stream]] = {}
        self._scheduled_streams: list[Stream] = []
        self._scheduled_writers: dict[Writer, None] = {}
        self._scheduled = False
        #: Frames handed to writers (one for each member), and their bytes.
        self.delivered = 0
        self.delivered_bytes = 0
        #: Parts of streamed messages that were left out for members that read too slowly. They get a snapshot.
        self.skipped = 0

    # --- membership -----------------------------------------------------------------------------------------------

    def stream(self, stream_id: int) -> Stream | None:
        """The stream; None when it is not open here."""
        return self.streams.get(stream_id)

    def open(self, stream_id: int, room: str, channel: str, epoch: str, head: int) -> Stream:
        """The stream, which is made at position ``head`` when it is not open yet."""
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = Stream(stream_id, room, channel, epoch, head)
            if channel == WHOLE:
                self._whole.setdefault(room, {})[stream_id] = stream
        return stream

    def of_room(self, room: str) -> list[Stream]:
        """The open streams of a whole room (``*`` for everybody); two when the log was made anew a moment ago."""
        return list(self._whole.get(room, {}).values())

    def add(self, stream: Stream, member: Member, *, parts: bool = True) -> None:
        """Make ``member`` a member from the next message on. It does not get what waits for the end of this turn.

        Without ``parts`` it gets the messages alone, and no parts of streamed messages.
        """
        self.flush_stream(stream)
        stream.members[member] = member.writer
        if not parts:
            stream.deaf = stream.deaf if stream.deaf is not None else {}
            stream.deaf[member] = None
        elif stream.deaf is not None:
            stream.deaf.pop(member, None)
        if stream.growing is not None:
            stream.growing.added(stream, member)

    def remove(self, stream: Stream, member: Member) -> None:
        """End a membership. A stream without members stays until :meth:`discard_if_empty`."""
        self.flush_stream(stream)
        stream.members.pop(member, None)
        if stream.deaf is not None:
            stream.deaf.pop(member, None)
        if stream.growing is not None:
            stream.growing.removed(member)

    def discard_if_empty(self, stream: Stream) -> None:
        """Forget a stream that has no members, no listeners and no waiting frames."""
        if not (stream.pending or stream.audience()):
            self.discard(stream.id)

    def discard(self, stream_id: int) -> None:
        """Forget a stream and its recent messages, if it is open."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self.forget_recent(stream)
            if stream.channel == WHOLE:
                whole = self._whole[stream.room]
                del whole[stream_id]
                if not whole:
                    del self._whole[stream.room]

    # --- recent messages ------------------------------------------------------------------------------------------

    def prime(self, stream: Stream, rows: Sequence[LoggedFrame]) -> None:
        """Add older messages, which were read from the log, to the recent ones (:meth:`RecentBudget.prime`)."""
        if stream.recent is None:
            stream.recent = RecentMessages()
        self._budget.prime(stream.recent, stream.head, rows)

    def forget_recent(self, stream: Stream) -> None:
        """Drop the recent messages, when the next message would not follow them."""
        if stream.recent is not None:
            self._budget.forget(stream.recent)
            stream.recent = None

    @property
    def recent_bytes(self) -> int:
        """Bytes of the recent messages of all streams."""
        return self._budget.used

    # --- delivery -------------------------------------------------------------------------------------------------

    def put(self, stream: Stream, seq: int, frame: bytes, exclude: Member | None) -> None:
        """Put the next message of a log on its stream: ``seq`` is ``stream.head + 1``."""
        stream.head = seq
        recent = stream.recent
        if recent is None:
            recent = stream.recent = RecentMessages()
        self._budget.put(recent, seq, frame)
        if stream.growing is None:
            # The body of `enqueue`, without the call.
            stream.pending.append(Delivery(frame, exclude))
            if not stream._scheduled:
                stream._scheduled = True
                self._scheduled_streams.append(stream)
                self._schedule()
        else:
            stream.growing.put(stream, seq, frame, exclude)

    def broadcast(self, stream: Stream, frame: bytes, exclude: Member | None = None) -> None:
        """Send a frame to the members that is no message of the log (an ephemeral message, presence)."""
        self.enqueue(stream, Delivery(frame, exclude))

    def enqueue(self, stream: Stream, delivery: Delivery) -> None:
        """Let a frame wait for the end of this turn."""
        stream.pending.append(delivery)
        if not stream._scheduled:
            stream._scheduled = True
            self._scheduled_streams.append(stream)
            self._schedule()

    def send(self, member: Member, frame: bytes) -> None:
        """Send a frame to one connection at the end of this turn, after the frames that it was sent before."""
        writer = member.writer
        # The body of `Writer.send`, without the call.
        if writer.pending is None:
            writer.pending = [frame]
        else:
            writer.pending.append(frame)
        if writer not in self._scheduled_writers:
            self._scheduled_writers[writer] = None
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand this turn's frames to the writers."""
        self._scheduled = False
        streams, self._scheduled_streams = self._scheduled_streams, []
        for stream in streams:
            stream._scheduled = False
            if stream.pending:
                self._fan_out(stream)
        if self._scheduled_writers:
            writers, self._scheduled_writers = self._scheduled_writers, {}
            _flush_all(writers)

    def flush_stream(self, stream: Stream) -> None:
        """Hand a stream's waiting frames to the writers now, so that an answer with its head comes after them."""
        if stream.pending:
            self._fan_out(stream)

    def _fan_out(self, stream: Stream) -> None:
        pending, stream.pending = stream.pending, []
        if stream.growing is not None and stream.growing.fan_out(stream, pending):
            return
        members = stream.members
        written = _write_all(members, pending)
        if written is None:
            written = write_all(members, pending)
        size, left_out = written
        self.delivered += len(members) * len(pending)
        self.delivered_bytes += len(members) * size
        if left_out is not None:
            self._write_rest(members, pending, left_out)

    def _write_rest(self, members: dict[Member, Writer], pending: list[Delivery], left_out: Iterable[Member]) -> None:
        """Write the frames that do not leave out a member to it, for each of the members in ``left_out``."""
        for member in left_out:
            writer = members.get(member)
            if writer is not None:
                rest = [delivery.frame for delivery in pending if delivery.exclude is not member]
                self.delivered -= len(pending) - len(rest)
                if rest:
                    writer.write(Batch(rest))


def write_all(members: dict[Member, Writer], pending: list[Delivery]) -> tuple[int, Iterable[Member] | None]:
    """Write deliveries to the members of a stream that none of them leaves out.

    Return the bytes for each of them, and those whom a delivery leaves out; None where there are none.
    """
    batch = Batch([delivery.frame for delivery in pending])
    excluded = {delivery.exclude for delivery in pending if delivery.exclude is not None}
    if not excluded:
        for writer in members.values():
            writer.write(batch)
        return len(batch.wire), None
    for member, writer in members.items():
        if member not in excluded:
            writer.write(batch)
    return len(batch.wire), excluded


def flush_all(writers: dict[Writer, None]) -> None:
    """Write what each of the writers keeps."""
    for writer in writers:
        writer.flush()


_write_all: Callable[[dict[Member, Writer], list[Delivery]], tuple[int, Iterable[Member] | None] | None] = write_all
_flush_all = flush_all
if core is not None:
    core.know(writer=Writer, stream=Stream, delivery=Delivery, batch=Batch, inbox_room=INBOX_ROOM)
    _write_all, _flush_all = core.write_all, core.flush_all
