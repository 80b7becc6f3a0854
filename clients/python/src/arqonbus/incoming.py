"""What the bus hands to a subscription: live frames, pages of history, gaps and the end. Nothing here waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .answers import Answer
from .cursor import Cursor
from .folding import Fold
from .growing import Growth
from .marks import Follower
from .messages import INBOX_ROOM, WHOLE, Message, Position, split_address

if TYPE_CHECKING:
    from .bus import Bus


class Incoming:
    """The waiting messages of a subscription, and its place in every log that it follows."""

    def __init__(
        self,
        bus: Bus,
        address: str,
        *,
        echo: bool,
        broadcasts: bool,
        presence: bool,
        parts: bool,
        grow: bool,
        buffer: int,
        fold: bool,
        wants: Callable[[dict[str, Any]], bool] | None,
    ) -> None:
        if buffer < 1:
            raise ValueError("`buffer` must be 1 or more.")
        self._bus = bus
        self.room, self.channel = split_address(address)
        #: The address ``room:channel``.
        self.address = f"{self.room}:{self.channel}"
        self.echo = echo
        self.broadcasts = broadcasts
        self.presence = presence
        #: Whether the parts of streamed messages are requested, and whether a streamed message is one message that grows.
        self.parts = parts
        self.grow = grow
        self.buffer = buffer
        #: Dropped messages of ephemeral channels. The subscription drops no other messages.
        self.dropped = 0
        #: The number of gaps: times when messages were lost, because the log did not reach back far enough.
        self.gaps = 0
        #: Waiting messages, each with the epoch of its log. A number is the seq of an end, or of a message that is passed over.
        self._queue: deque[tuple[Message | int, str | None]] = deque()
        #: How the messages stand now, where the reader wants to know it.
        self._fold = Fold() if fold else None
        #: The streamed messages whose opening this subscription has seen, and whose end it has not.
        self._growing: dict[str, Growth] = {}
        self._cursors: dict[str, Cursor] = {}
        self._arrived = asyncio.Event()
        self._error: BaseException | None = None
        self._closed = False
        #: The place after the last message that the reader took, or the start of the subscription.
        self._place: Position | None = None
        #: Moves the mark behind the messages that the reader is done with.
        self._follower: Follower | None = None
        #: Says which messages of this log the reader gets. The others are passed over.
        self._chosen = wants or (bus._shown if self.room == INBOX_ROOM else None)

    def _begin(self, address: str, at: Position, *, gap: bool = False) -> None:
        """Set the place in a log to ``at``. ``gap`` means that earlier messages are lost."""
        if self._place is None and address == self.address:
            self._place = at
        cursor = self._cursors.setdefault(address, Cursor())
        cursor.last = cursor.head = at.seq
        cursor.epoch = at.epoch
        cursor.lagging = False
        cursor.generation += 1
        if gap:
            self._lost(cursor)

    def _lost(self, cursor: Cursor) -> None:
        """Mark the next message as the first one after a gap, and count the gap once."""
        if not cursor.gap:
            cursor.gap = True
            self.gaps += 1
            for growth in self._growing.values():
                self._bus._spawn(self._bus._refill(growth))  # Its end may be among the lost messages.

    def _restart(self) -> None:
        """Reset the subscription after its opening was cancelled."""
        self._queue.clear()
        self._growing.clear()
        self._cursors.clear()
        self._place = None

    def _learn(self, address: str, epoch: str) -> None:
        """Store the epoch of the log that was followed up to here."""
        cursor = self._cursors.get(address)
        if cursor is None or cursor.epoch is not None:
            return
        cursor.epoch = epoch
        if address == self.address:
            self._queue = deque((message, known or epoch) for message, known in self._queue)
            if self._place is not None and not self._place.epoch:
                self._place = Position(self._place.seq, epoch)

    def _follow(self, address: str, head: int) -> None:
        """Read from the history after the cursor, up to ``head`` at least, before any live message."""
        cursor = self._cursors.setdefault(address, Cursor(last=0))
        cursor.lagging = True
        cursor.head = max(cursor.head, head)
        self._arrived.set()

    def _wants(self, address: str) -> bool:
        room, _, channel = address.partition(":")
        if address == self.address:
            return True
        return self.broadcasts and channel == WHOLE and room in (self.room, WHOLE) and self.room != INBOX_ROOM

    def _offer(self, address: str, frame: dict[str, Any]) -> None:
        """Handle a live frame, which may be a repeated one."""
        seq = frame.get("seq")
        if not isinstance(seq, int):
            if frame.get("from") == self._bus.client_id and not self.echo:
                return
            if len(self._queue) >= self.buffer:
                self.dropped += 1
            else:
                self._put(Message.of(frame, bus=self._bus), None)
            return
        cursor = self._cursors.setdefault(address, Cursor())
        if cursor.last is not None and seq <= cursor.last:
            return
        if cursor.lagging:
            cursor.head = max(cursor.head, seq)
        elif len(self._queue) >= self.buffer and (frame.get("from") != self._bus.client_id or self.echo):
            if address.endswith(f":{WHOLE}"):
                # A room's log cannot be read by seq. Its few messages must not be lost silently.
                cursor.last = seq
                self._lost(cursor)
                return
            cursor.lagging, cursor.head = True, seq
            if cursor.last is None:
                cursor.last = seq - 1
        else:
            self._take(frame, cursor, from_history=False)

    def _take(self, frame: dict[str, Any], cursor: Cursor, *, from_history: bool) -> None:
        seq = frame["seq"]
        if cursor.last is not None:
            if seq <= cursor.last:
                return
            # On the socket, a hole is our own message. In the history, a hole is a deleted message.
            if from_history and seq > cursor.last + 1 and cursor.last > 0:
                self._lost(cursor)
        cursor.last = seq
        own = frame.get("from") == self._bus.client_id and not self.echo
        if "stream" in frame and self.grow and isinstance(frame["stream"], dict):
            self._take_streamed(frame, cursor, own=own)
        elif own or (self._chosen is not None and not self._chosen(frame)):
            self._pass(seq, cursor.epoch, f"{frame.get('room')}:{frame.get('channel')}")
        else:
            gap, cursor.gap = cursor.gap, False
            self._put(Message.of(frame, after_gap=gap, bus=self._bus), cursor.epoch)

    def _pass(self, seq: int, epoch: str | None, address: str) -> None:
        """Pass over a message that the reader does not get. The mark passes over it too."""
        if self._follower is None or address != self.address:
            return
        if self._queue and isinstance(self._queue[-1][0], int):
            self._queue.pop()
        self._queue.append((seq, epoch))
        self._arrived.set()

    def _take_streamed(self, frame: dict[str, Any], cursor: Cursor, *, own: bool) -> None:
        """Handle the opening or the end of a streamed message, which are one message together."""
        address = f"{frame.get('room')}:{frame.get('channel')}"
        if frame.get("type") == "stream_end":
            growth = self._growing.pop(str(frame.get("of")), None)
            ended = self._bus._growing.ended(frame, address)
            if growth is not None:
                if growth is not ended:
                    growth.end(frame)
                if address == self.address:
                    self._queue.append((frame["seq"], cursor.epoch))
                    self._arrived.set()
                return
            growth = ended
        else:
            growth = self._growing[str(frame.get("id"))] = self._bus._growing.opened(frame, address)
        if not own:
            gap, cursor.gap = cursor.gap, False
            self._put(Answer.grown(frame, growth, after_gap=gap, bus=self._bus), cursor.epoch)

    def _snapshot(self, sender: str | None, growth: Growth) -> bool:
        """Show a message that grows, if its opening was before our start. Returns whether it is new here."""
        cursor = self._cursors.get(growth.address)
        if not self.grow or growth.of in self._growing or growth.over or growth.seq is None or cursor is None:
            return False
        if cursor.last is None or growth.seq > cursor.last or len(self._queue) >= self.buffer:
            return False  # The opening will come, or the end shows the message.
        self._growing[growth.of] = growth
        if sender != self._bus.client_id or self.echo:
            room, channel = split_address(growth.address)
            frame = {"of": growth.of, "of_seq": growth.seq, "room": room, "channel": channel, "from": sender}
            self._put(Answer.grown(frame, growth, bus=self._bus), None)
        return True

    def _notice(self, frame: dict[str, Any]) -> None:
        """Handle a notice of the server about presence or about erased messages."""
        if self._fold is not None and (frame.get("payload") or {}).get("event") == "erased":
            for changed in self._fold.erase(frame):
                # It has no place of its own: the mark stays where it is.
                told = Message.of({**frame, "erased": True}, bus=self._bus)
                told.fold(changed)
                self._queue.append((told, None))
            self._arrived.set()
            return
        if self.presence and len(self._queue) < self.buffer:
            self._put(Message.of(frame), None)

    def _put(self, message: Message, epoch: str | None) -> None:
        if self._fold is not None:
            message.fold(self._fold.take(message))
        self._queue.append((message, epoch))
        self._arrived.set()

    def _finish(self) -> None:
        """End after the messages in the buffer."""
        self._closed = True
        self._arrived.set()

    def _fail(self, error: BaseException) -> None:
        """End with an error after the messages in the buffer."""
        self._error = error
        self._arrived.set()
