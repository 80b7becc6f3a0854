"""Snapshots of growing messages, for members that joined late, lack parts, or read too slowly.

One read of the database serves everybody who waits for a message when the read begins. Who comes later waits for the next
read, because another process may have sent it more than this read finds. So no snapshot is older than what its reader has. A
member whose socket is full waits on, and gets one snapshot in the place of all the parts that it missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from django.db import Error as DatabaseError

from ...log.effects import OPEN, Snapshot, StreamState
from ...protocol import frames
from ...protocol.names import Address
from ...realtime.frame import Batch
from ...realtime.growing import GrowingMessage, LogGrowth
from ...realtime.hub import Hub, Stream
from ...realtime.writer import Writer
from ...services import streams as streamed
from ..runtime import Runtime
from .streams import PATIENCE, Streams

logger = logging.getLogger("arqonbus.node")

#: Seconds between looks at members that read too slowly.
SLOW_LOOK = 0.05
#: Parts, and their bytes, that may follow a snapshot at once. Above that the message is read again.
FOLLOWING, FOLLOWING_BYTES = 200, 256 * 1024
#: Seconds that what was read of a message is kept for others, who read one row of the database if no part has come.
#: The second figure is the most bytes of all that is kept.
KEPT, KEPT_BYTES = 5.0, 8 * 1024 * 1024
#: Seconds until the database is asked again after a fault.
RETRY = 0.5


class Snapshots:
    """Brings those who are behind in a growing message up to it. ``forget`` is called for a message that is over already."""

    def __init__(
        self, runtime: Runtime, hub: Hub, streams: Streams, forget: Callable[[Stream, GrowingMessage], None]
    ) -> None:
        self._loop = runtime.loop
        self._run = runtime.run_watcher
        self._hub = hub
        self._spawn = streams.spawn
        self._forget = forget
        # Messages with members that read too slowly, until a timer looks at these again.
        self._behind: dict[GrowingMessage, Stream] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._kept: dict[GrowingMessage, Snapshot] = {}
        self._kept_bytes = 0
        #: Snapshots that were given to members.
        self.given = 0

    def wait_for_hole(self, stream: Stream, message: GrowingMessage, n: int) -> None:
        """Wait a moment for the predecessors of part ``n``. If they do not come, everybody gets a snapshot."""
        if not message.waited:
            message.waited = True
            self._loop.call_later(PATIENCE, self._look_at_hole, stream, message, n)

    def _look_at_hole(self, stream: Stream, message: GrowingMessage, n: int) -> None:
        message.waited = False
        if message.ended or message.lost or self._hub.streams.get(stream.id) is not stream:
            return
        if message.have < n:
            self.lose(stream, message)
        elif message.early:
            self.wait_for_hole(stream, message, max(message.early))

    def lose(self, stream: Stream, message: GrowingMessage) -> None:
        """Note that parts are missing here, so that everybody waits for a snapshot."""
        message.lost = True
        self.catch_up(stream, message)

    def catch_up(self, stream: Stream, message: GrowingMessage) -> None:
        """Read a message for those who are behind, once one of them takes what it is sent."""
        if message.reading or message.ended or not message.begun:
            return
        if message.lost or any(map(_ready, message.behind.values())):
            message.reading = True
            self._spawn(self._read(stream, message))
        else:
            self._wait(stream, message)

    def _wait(self, stream: Stream, message: GrowingMessage) -> None:
        """Look again a moment later at those who are behind."""
        if message.behind:
            self._behind[message] = stream
            if self._timer is None:
                self._timer = self._loop.call_later(SLOW_LOOK, self._look_at_slow)

    def _look_at_slow(self) -> None:
        self._timer = None
        behind, self._behind = self._behind, {}
        # One member may be behind in many messages.
        writers = {writer for message in behind for writer in message.behind.values()}
        ready = set(filter(_ready, writers))
        for message, stream in behind.items():
            if message.ended or self._hub.streams.get(stream.id) is not stream:
                continue
            if message.lost or not ready.isdisjoint(message.behind.values()):
                self.catch_up(stream, message)
            else:
                self._wait(stream, message)

    async def _read(self, stream: Stream, message: GrowingMessage) -> None:
        found: Snapshot | None = None
        filling = failed = False
        try:
            # Members that join in the same turn share the read.
            await asyncio.sleep(0)
            if self._is_over(stream, message):
                return
            filling = message.lost
            if filling:
                growth_of(stream).lag(stream, message)
            message.served = set(message.behind)
            message.since.clear()
            found = await self._run(streamed.snapshot, message.id, self._known(message))
        except DatabaseError as problem:
            failed = True
            logger.debug("a snapshot waits for the database: %s", problem)
            await asyncio.sleep(RETRY)
        finally:
            message.reading = False
        if self._is_over(stream, message):
            return
        if failed or (found is not None and _outdated(message, found.state)):
            self.catch_up(stream, message)
        elif found is not None and found.state.state == OPEN:
            self._keep(message, found)
            self._give(stream, message, found, filling=filling)
        elif found is None or (found.state.end_seq or 0) <= stream.head:
            self._forget(stream, message)
        # Else its end is on its way, or the next look at the log finds it.

    def _is_over(self, stream: Stream, message: GrowingMessage) -> bool:
        return message.ended or self._hub.streams.get(stream.id) is not stream

    def _known(self, message: GrowingMessage) -> Snapshot | None:
        """Return what was read of a message a moment ago, if no later part was heard of here. The database may have more."""
        kept = self._kept.get(message)
        if kept is None or message.lost or (kept.state.attempt, kept.state.have) != (message.attempt, message.have):
            return None
        return kept

    def _keep(self, message: GrowingMessage, found: Snapshot) -> None:
        known = self._kept.get(message)
        more = len(found.data) - (0 if known is None else len(known.data))
        if self._kept_bytes + more > KEPT_BYTES:
            return
        if known is None:
            self._loop.call_later(KEPT, self._drop, message)
        self._kept[message] = found
        self._kept_bytes += more

    def _drop(self, message: GrowingMessage) -> None:
        self._kept_bytes -= len(self._kept.pop(message).data)

    def _give(self, stream: Stream, message: GrowingMessage, found: Snapshot, *, filling: bool) -> None:
        """Give those who waited the snapshot that was read, and the parts that were delivered since.

        With ``filling``, the read was for parts that are missing here.
        """
        state, growth = found.state, growth_of(stream)
        if state.attempt > message.attempt:
            # Its adoption was not announced here. Everybody has a text that may be gone, but for those who came since.
            since = message.behind.keys() - message.served
            message.begin_attempt(state.attempt)
            message.lost = filling = True
            growth.lag(stream, message)
            message.served = message.behind.keys() - since
        frame = frames.snapshot(
            Address(stream.room, stream.channel),
            message.uid,
            state.have,
            state.mode,
            state.attempt,
            found.data,
            state.seq,
            state.client_id,
        )
        later = [part.frame for part in message.since if part.n > state.have]
        message.since.clear()
        self._hub.flush_stream(stream)
        sent = self._send(message, Batch([frame, *later]), Batch([frame]))
        if filling and message.lost:
            message.lost = False
            message.have = state.have
            growth.deliver_early(stream, message)
            if message.early:
                self.wait_for_hole(stream, message, max(message.early))
        if sent or message.lost or not message.behind.keys() <= message.served:
            self.catch_up(stream, message)
        else:
            self._wait(stream, message)

    def _send(self, message: GrowingMessage, batch: Batch, own: Batch) -> int:
        """Write ``batch`` to those who waited and have room for it, and return their number.

        The owner gets ``own``, without its later parts.
        """
        sent = 0
        for member, writer in list(message.behind.items()):
            wanted = own if member is message.owner else batch
            if member in message.served and _ready(writer) and _fits(writer, sum(map(len, wanted.payloads))):
                del message.behind[member]
                sent += 1
                writer.write(wanted)
        self.given += sent
        return sent


def growth_in(stream: Stream) -> LogGrowth | None:
    """Return the growing messages of a stream; None while there are none."""
    found = stream.growing
    return found if isinstance(found, LogGrowth) else None


def growth_of(stream: Stream) -> LogGrowth:
    """Return the growing messages of a stream that has some."""
    found = growth_in(stream)
    assert found is not None  # the caller has found a message in it
    return found


def _outdated(message: GrowingMessage, state: StreamState) -> bool:
    """Return whether a snapshot is older than what was heard meanwhile, or too many parts would follow it."""
    later = [part for part in message.since if part.n > state.have]
    too_many = len(later) > FOLLOWING or sum(len(part.frame) for part in later) > FOLLOWING_BYTES
    return state.attempt < message.attempt or too_many


def _ready(writer: Writer) -> bool:
    return not writer.closed and writer.drained()


def _fits(writer: Writer, size: int) -> bool:
    """Return whether ``size`` more bytes may wait for a client. One frame may, where nothing waits."""
    waiting = writer.buffered()
    return not waiting or 4 * (waiting + size) <= 3 * writer.bounds.bytes
