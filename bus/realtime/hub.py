"""The members of this process, and the fan-out to them.

A :class:`Stream` is one log as this process sees it: its position, its recent messages, its members here. Delivering
puts a frame on the stream; at the end of the loop turn the frames of that turn are joined once and handed to each
member's writer as one buffer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ..protocol.names import WHOLE
from .frame import Batch
from .recent import Memory, Recent, Row
from .writer import Writer


class Member(Protocol):
    """What the hub needs of a connection."""

    writer: Writer


class Stream:
    """One log as this process sees it. ``head`` is the last ``seq`` that was put on it here."""

    __slots__ = (
        "_dirty",
        "channel",
        "epoch",
        "head",
        "held",
        "id",
        "members",
        "memory",
        "pending",
        "room",
    )

    def __init__(self, stream_id: int, room: str, channel: str, epoch: str, head: int) -> None:
        self.id = stream_id
        self.room = room
        self.channel = channel
        self.epoch = epoch
        self.head = head
        # Each with its writer, so that a fan-out need not look at the connection itself.
        self.members: dict[Member, Writer] = {}
        # Recent messages with consecutive seqs that end at ``head``; made when the first one comes.
        self.memory: Recent | None = None
        # Messages that came before their turn.
        self.held: dict[int, tuple[bytes, Member | None]] = {}
        self.pending: list[tuple[bytes, Member | None]] = []
        self._dirty = False

    def recent(self, after: int) -> list[Row] | None:
        """The messages with ``seq > after`` up to ``head`` from memory; None when memory does not reach back that far."""
        if after >= self.head:
            return []
        return self.memory.after(after) if self.memory is not None else None


class Hub:
    """The streams and connections of one process and loop; ``memory`` is what it may remember of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, memory: Memory) -> None:
        self._loop = loop
        self._memory = memory
        self.streams: dict[int, Stream] = {}
        # Those of whole rooms, by room: who leaves a room leaves them without having to know their ids.
        self._whole: dict[str, dict[int, Stream]] = {}
        self._dirty_streams: list[Stream] = []
        self._dirty_writers: dict[Writer, None] = {}
        self._scheduled = False
        #: Frames handed to writers, one for each receiver, and their bytes.
        self.delivered = 0
        self.delivered_bytes = 0

    # --- membership -----------------------------------------------------------------------------------------------

    def stream(self, stream_id: int) -> Stream | None:
        """The stream, when it is open here."""
        return self.streams.get(stream_id)

    def open(self, stream_id: int, room: str, channel: str, epoch: str, head: int) -> Stream:
        """The stream, made at position ``head`` unless it is there."""
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self.streams[stream_id] = Stream(stream_id, room, channel, epoch, head)
            if channel == WHOLE:
                self._whole.setdefault(room, {})[stream_id] = stream
        return stream

    def whole(self, room: str) -> list[Stream]:
        """The open logs of a whole room (``*``: of everybody); two where one was made anew and nobody told us yet."""
        return list(self._whole.get(room, {}).values())

    def add(self, stream: Stream, member: Member) -> None:
        """From the next message on ``member`` gets what is put on ``stream``; what waits for this turn's end it does not."""
        if stream.pending:
            self._flush_stream(stream)
        stream.members[member] = member.writer

    def remove(self, stream: Stream, member: Member) -> None:
        """End a membership. A stream without members stays for a while (:meth:`discard_if_empty`)."""
        if stream.pending:
            self._flush_stream(stream)
        stream.members.pop(member, None)

    def discard_if_empty(self, stream: Stream) -> None:
        """Forget a stream without members."""
        if not (stream.members or stream.pending):
            self.discard(stream.id)

    def discard(self, stream_id: int) -> None:
        """Forget a stream and what is remembered of it, if it is there."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            self.forget_recent(stream)
            if stream.channel == WHOLE:
                whole = self._whole[stream.room]
                del whole[stream_id]
                if not whole:
                    del self._whole[stream.room]

    # --- delivery -------------------------------------------------------------------------------------------------

    def put(self, stream: Stream, seq: int, frame: bytes, exclude: Member | None) -> None:
        """The next message of a log: ``seq`` is ``stream.head + 1``."""
        stream.head = seq
        if stream.memory is None:
            stream.memory = Recent()
        self._memory.put(stream.memory, seq, frame)
        self.pass_on(stream, frame, exclude)

    def prime(self, stream: Stream, rows: list[Row]) -> None:
        """Fill a memory that does not reach back far with messages of the log, read by somebody (``Memory.prime``)."""
        if stream.memory is None:
            stream.memory = Recent()
        self._memory.prime(stream.memory, stream.head, rows)

    def forget_recent(self, stream: Stream) -> None:
        """Empty a memory that would not be consecutive with what comes next."""
        if stream.memory is not None:
            self._memory.forget(stream.memory)
            stream.memory = None

    @property
    def recent_bytes(self) -> int:
        """Bytes of the recent messages that are remembered."""
        return self._memory.used

    def settle(self, stream: Stream) -> None:
        """Write what waits for this turn's end, so that an answer with the stream's head comes after it."""
        if stream.pending:
            self._flush_stream(stream)

    def pass_on(self, stream: Stream, frame: bytes, exclude: Member | None = None) -> None:
        """Deliver a frame to the members without it being part of the log (ephemeral channels, presence)."""
        stream.pending.append((frame, exclude))
        if not stream._dirty:
            stream._dirty = True
            self._dirty_streams.append(stream)
            self._schedule()

    def send(self, member: Member, frame: bytes) -> None:
        """A frame for one connection, written at the end of this turn, after what it was sent before."""
        writer = member.writer
        writer.send(frame)
        if writer not in self._dirty_writers:
            self._dirty_writers[writer] = None
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand this turn's frames to the writers."""
        self._scheduled = False
        streams, self._dirty_streams = self._dirty_streams, []
        for stream in streams:
            stream._dirty = False
            if stream.pending:
                self._flush_stream(stream)
        if self._dirty_writers:
            writers, self._dirty_writers = self._dirty_writers, {}
            for writer in writers:
                writer.flush()

    def _flush_stream(self, stream: Stream) -> None:
        pending, stream.pending = stream.pending, []
        excluded = {member for _, member in pending if member is not None}
        batch = Batch([frame for frame, _ in pending])
        members = stream.members
        self.delivered += len(members) * len(pending)
        self.delivered_bytes += len(members) * len(batch.wire)
        if not excluded:
            for writer in members.values():
                writer.write(batch)
            return
        for member, writer in members.items():
            if member in excluded:
                rest = [frame for frame, exclude in pending if exclude is not member]
                self.delivered -= len(pending) - len(rest)
                if rest:
                    writer.write(Batch(rest))
            else:
                writer.write(batch)
