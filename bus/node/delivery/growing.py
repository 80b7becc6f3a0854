"""The streamed messages that grow in the logs of this process: parts in order, and a snapshot for everybody who lacks some.

Parts come from this process's commits and from other processes' notifications. A notification may be lost. Then the number of
the next part jumps, or a look at the database (:meth:`Growing.look`) finds what is missing. Either way, one read of the
database serves everybody who waits for the message at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from django.db import Error as DatabaseError

from ...directory.channels import ChannelRef
from ...log.effects import OPEN, StreamState
from ...notify.messages import PartRow, StreamParts, StreamSignal
from ...protocol import frames
from ...protocol.errors import SLOW, BusError, ErrorCode
from ...protocol.names import Address
from ...realtime.growing import GrowingMessage, LogGrowth, PartFrame
from ...realtime.hub import Hub, Member, Stream
from ...services import streams as streamed
from ..client import ClientState
from ..runtime import Runtime
from .snapshots import Snapshots, growth_in, growth_of
from .streams import PATIENCE, Streams, pruned

#: Messages that ended lately and are remembered: a notification of them may be late.
ENDED = 2000
#: Seconds between two questions about unknown messages of a stream.
PAUSE = 0.5


class Growing:
    """The growing messages of all streams of the hub."""

    def __init__(self, runtime: Runtime, hub: Hub, streams: Streams) -> None:
        self._run = runtime.run_watcher
        self._hub = hub
        self._streams = streams
        streams.on_open = self.begin
        self._snapshots = Snapshots(runtime, hub, streams, self._forget)
        # Streams whose open messages are asked for now.
        self._asking: set[int] = set()
        self._ended: dict[str, None] = {}
        # What the last looks found to be behind or over. What is still so at the next look is true.
        self._suspects: dict[str, StreamState] = {}
        self._perhaps_over: set[GrowingMessage] = set()

    @property
    def open(self) -> int:
        """The number of growing messages in the logs with members here."""
        return sum(len(_messages(stream)) for stream in self._hub.streams.values() if stream.growing is not None)

    @property
    def snapshots(self) -> int:
        """The number of snapshots that were given to members."""
        return self._snapshots.given

    # --- what was committed ---------------------------------------------------------------------------------------------

    def opened(self, channel_id: int, of: str, stream_id: int, seq: int) -> None:
        """Note a message that begins to grow. Its opening is at ``seq``."""
        stream = self._hub.streams.get(channel_id)
        if stream is not None and of not in self._ended and self._find(stream, of) is None:
            self._register(stream, GrowingMessage(stream_id, of, seq, 1, 0))

    def part(self, channel_id: int, of: str, attempt: int, part: PartFrame) -> None:
        """Deliver a committed part, or keep it until its turn. An empty frame has to be read from the database."""
        stream = self._hub.streams.get(channel_id)
        if stream is None:
            return
        message = self._find(stream, of)
        if message is None:
            if of not in self._ended and stream.head >= 0:
                self._ask_soon(stream)
            return
        if attempt < message.attempt:
            return
        if attempt > message.attempt:
            message.begin_attempt(attempt)
            message.lost = True
        if part.n == message.have + 1 and part.frame and message.begun and not message.lost:
            growth_of(stream).deliver(stream, message, part)
        elif part.n > message.have or message.lost:
            if part.frame:
                message.keep(part)
            if message.lost:
                self._snapshots.lose(stream, message)
            elif message.begun:
                self._snapshots.wait_for_hole(stream, message, part.n)

    def reset(self, signal: StreamSignal) -> None:
        """Note that a message was adopted. Without its former text, everybody gets an empty snapshot."""
        stream = self._hub.streams.get(signal.channel_id)
        message = self._find(stream, signal.of) if stream is not None else None
        if stream is None or message is None or signal.attempt <= message.attempt:
            return
        former = message.owner
        message.begin_attempt(signal.attempt)
        if not signal.have:
            message.have, message.lost = 0, False
        if not message.begun:
            return
        growth = growth_of(stream)
        if not signal.have:
            address = Address(stream.room, stream.channel)
            empty = frames.snapshot(
                address, message.uid, 0, signal.mode, signal.attempt, b"", signal.seq, signal.client_id
            )
            growth.announce(stream, message, empty)
            return
        if former is not None:
            growth.lag(stream, message, [former])
        if message.have != signal.have:
            self._snapshots.lose(stream, message)

    def receive_parts(self, notification: StreamParts) -> None:
        """Apply the parts of another process or thread."""
        row: PartRow
        for row in notification.parts:
            self.part(row.channel_id, row.of, row.attempt, PartFrame(row.n, row.frame))

    def receive_signal(self, signal: StreamSignal) -> None:
        """Apply what another process or thread says of a message."""
        if signal.event == "opened":
            self.opened(signal.channel_id, signal.of, signal.id, signal.seq)
        elif signal.event == "reset":
            self.reset(signal)

    # --- the registry ---------------------------------------------------------------------------------------------------

    def begin(self, stream: Stream, states: Sequence[StreamState]) -> None:
        """Note the open messages of a stream that begins at this moment, as the database has them."""
        for state in states:
            # The database may have lost the end that was delivered here.
            self._ended.pop(state.uid, None)
        still_open = {state.uid for state in states if self._found(stream, state) is not None}
        for message in _messages(stream):
            if message.begun or message.seq > stream.head:
                continue
            # It was announced before the stream's position was known, so its opening comes no more.
            if message.uid in still_open:
                growth_of(stream).begin(stream, message)
            else:
                self._forget(stream, message)

    def _found(self, stream: Stream, state: StreamState) -> GrowingMessage | None:
        """Note an open message that the database has. Its members lack what was announced before."""
        message = self._find(stream, state.uid)
        if message is None and state.uid not in self._ended:
            message = GrowingMessage(state.id, state.uid, state.seq, state.attempt, state.have)
            message.lost = True
            self._register(stream, message)
        return message

    def _register(self, stream: Stream, message: GrowingMessage) -> None:
        growth = growth_in(stream)
        if growth is None:
            growth = stream.growing = LogGrowth(self._hub, self._snapshots.catch_up, self._over)
        growth.messages[message.uid] = message
        if stream.head >= 0 and message.seq <= stream.head:
            growth.begin(stream, message)
        if message.lost:
            self._snapshots.lose(stream, message)

    @staticmethod
    def _find(stream: Stream, of: str) -> GrowingMessage | None:
        growth = growth_in(stream)
        return growth.messages.get(of) if growth is not None else None

    def _over(self, uid: str) -> None:
        if len(self._ended) >= ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[uid] = None

    # --- listeners ------------------------------------------------------------------------------------------------------

    async def listen(self, ref: ChannelRef, of: str, client: ClientState) -> bool:
        """Give ``client`` the frames of one message alone: a snapshot, then the parts and the end.

        The caller has checked the right to read, and has noted the channel in ``client.memberships``. Return False where the
        message is not open any more. Raises ``BusError`` UNAVAILABLE, CHANNEL_NOT_FOUND, or REVOKED for a membership that has
        ended meanwhile, and the database's error.
        """
        (stream,) = await self._streams.open([ref])
        message = self._find(stream, of)
        if message is None:
            with self._streams.kept(stream):
                state = await self._run(streamed.state_of, of)
            if state is None or state.state != OPEN or state.channel_id != ref.id:
                return False
            if self._hub.streams.get(ref.id) is stream:
                message = self._found(stream, state)
        if ref.id not in client.memberships:
            raise revoked(ref.address)
        if message is None:
            return False
        growth_of(stream).listen(stream, message, client)
        return True

    def unlisten(self, ref: ChannelRef, member: Member) -> None:
        """Give ``member`` no more frames."""
        stream = self._hub.streams.get(ref.id)
        if stream is not None:
            self._hub.remove(stream, member)

    # --- looks at the database ------------------------------------------------------------------------------------------

    def _ask_soon(self, stream: Stream) -> None:
        if stream.id not in self._asking:
            self._asking.add(stream.id)
            self._streams.spawn(self._ask(stream))

    async def _ask(self, stream: Stream) -> None:
        """Find the open messages of a stream after a part of an unknown one."""
        try:
            await asyncio.sleep(PATIENCE)
            states = await self._run(streamed.open_in, [stream.id])
            if self._hub.streams.get(stream.id) is stream:
                for state in states:
                    self._found(stream, state)
            # A message that has ended is asked for again and again by its late parts.
            await asyncio.sleep(PAUSE)
        except DatabaseError:
            pass  # The next look finds them.
        finally:
            self._asking.discard(stream.id)

    async def look(self, since: datetime, *, full: bool) -> list[StreamState]:
        """Find what was not announced of the messages that moved since then, or with ``full`` of all messages here.

        Return the streams that moved, and all those that wait for their owners. Raises the database's error.
        """
        moved = await self._run(streamed.moved_since, since)
        if not full:
            self._compare(moved)
            return moved
        known = [stream for stream in self._hub.streams.values() if stream.head >= 0]
        here = {message: stream for stream in known for message in _messages(stream) if message.begun}
        states = await self._run(streamed.open_in, [stream.id for stream in known])
        still_open = {state.uid for state in states}
        over = {message for message in here if message.uid not in still_open and not message.ended}
        for message in over & self._perhaps_over:
            self._forget(here[message], message)
        self._perhaps_over = over
        self._compare([*states, *(state for state in moved if state.uid not in still_open)])
        return moved

    def _compare(self, moved: Sequence[StreamState]) -> None:
        """Compare messages that moved lately with what was delivered here.

        What is behind at two looks in a row is read. At the first one its notification may still be on its way.
        """
        suspects: dict[str, StreamState] = {}
        for state in moved:
            stream = self._hub.streams.get(state.channel_id)
            if stream is None or stream.head < 0 or state.state != OPEN or state.uid in self._ended:
                continue
            message = self._find(stream, state.uid)
            if message is not None and (message.lost or not _behind(message, state)):
                continue
            before = self._suspects.get(state.uid)
            if before is None or (message is not None and not _behind(message, before)):
                suspects[state.uid] = state
            elif message is None:
                self._found(stream, state)
            else:
                self._snapshots.lose(stream, message)
        self._suspects = suspects

    def _forget(self, stream: Stream, message: GrowingMessage) -> None:
        """Forget a message that has ended and whose end was not seen: it came too early, or the log dropped it."""
        growth = growth_in(stream)
        if growth is None or growth.messages.get(message.uid) is not message:
            return
        self._hub.flush_stream(stream)
        del growth.messages[message.uid]
        message.ended = True
        self._over(message.uid)
        for member in message.listeners:
            if isinstance(member, ClientState):
                member.drop(SLOW, pruned(Address(stream.room, stream.channel)))


def revoked(address: Address) -> BusError:
    """Return the error for a reader whose membership has ended."""
    return BusError(ErrorCode.REVOKED, f"You can no longer read {address}.")


def _messages(stream: Stream) -> list[GrowingMessage]:
    growth = growth_in(stream)
    return list(growth.messages.values()) if growth is not None else []


def _behind(message: GrowingMessage, state: StreamState) -> bool:
    return (message.attempt, message.have) < (state.attempt, state.have)
