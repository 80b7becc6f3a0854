"""The iterator over a channel's messages: each one exactly once, in order, across reconnects.

A subscription remembers its last message in every log that it follows, so it recognises repeated messages. Its memory is
bounded. If ``buffer`` messages wait, it stops storing live ones. When its reader has caught up, it reads the others from the
history. So a slow iterator delays neither the connection nor other iterators, and loses nothing that the history has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .answers import Answer
from .cursor import Cursor
from .errors import BusClosed, Forbidden, NotFound
from .growing import Growth
from .heard import joinable
from .messages import INBOX_ROOM, WHOLE, Message, Position, Since, split_address
from .requests import within

if TYPE_CHECKING:
    from .bus import Bus

#: The size of a page of history: the server's maximum.
PAGE = 500
#: If the history does not show the newest message: how often to read again before it counts as lost, and the pause (seconds).
LOOKS, PAUSE = 20, 0.05


class Subscription(AsyncIterator[Message]):
    """Messages of one channel. :meth:`Bus.subscribe` returns it. Iterate over it, or use it as a context manager.

    ``async with`` joins the channel at once and leaves it at the end. Otherwise the first message that you request joins it, and
    the subscription ends when the last reference to it is gone.
    """

    def __init__(
        self,
        bus: Bus,
        address: str,
        *,
        since: Since = None,
        echo: bool = False,
        broadcasts: bool = True,
        presence: bool = False,
        parts: bool = True,
        grow: bool = True,
        buffer: int = 1000,
        keep: Callable[[Position], Awaitable[None]] | None = None,
    ) -> None:
        if buffer < 1:
            raise ValueError("`buffer` must be 1 or more.")
        self._bus = bus
        self.room, self.channel = split_address(address)
        #: The address ``room:channel``.
        self.address = f"{self.room}:{self.channel}"
        self.since = since
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
        #: Waiting messages, each with the epoch of its log. A number is the seq of an end, which is no message of its own.
        self._queue: deque[tuple[Message | int, str | None]] = deque()
        #: The streamed messages whose opening this subscription has seen, and whose end it has not.
        self._growing: dict[str, Growth] = {}
        self._cursors: dict[str, Cursor] = {}
        self._arrived = asyncio.Event()
        self._error: BaseException | None = None
        self._opened = False
        self._closed = False
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        #: The place after the last message that the reader took, or the start of the subscription.
        self._place: Position | None = None
        #: Called with the place after a message that its reader finished.
        self._keep = keep
        self._undone: Position | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether the subscription needs a membership. Inboxes and whole-room logs need none."""
        return joinable(self.address)

    async def open(self) -> Self:
        """Join the channel. Messages from now on, or from ``since`` on, wait for the reader.

        Raises ``ServerError`` (``Forbidden``, ``ChannelNotFound``, ``LimitReached`` …) if the server refuses.
        """
        async with self._opening:
            if not self._opened and not self._closed:
                await self._bus._memberships.attach(self)
                self._opened = True
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Make ``await bus.subscribe(…)`` the same as ``await bus.subscribe(…).open()``."""
        return self.open().__await__()

    async def close(self) -> None:
        """End the subscription. Iterators end, and the client leaves the channel if nothing else needs it."""
        await self._end(done=True)

    async def _end(self, *, done: bool) -> None:
        if not self._closed:
            self._finish()
            if done:
                await self._settle()
            await self._bus._memberships.detach(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The reader failed, so its message is not done. A subscription with a stored place starts with it again.
        await self._end(done=kind is None)

    @property
    def closed(self) -> bool:
        """Whether the subscription was closed."""
        return self._closed

    @property
    def error(self) -> BaseException | None:
        """The error that ended the subscription. Iterators raise it. None after :meth:`close`."""
        return self._error

    @property
    def waiting(self) -> int:
        """The number of messages in the buffer."""
        return len(self._queue)

    @property
    def position(self) -> Position | None:
        """The place after the last message that the reader took, or the start of the subscription.

        Store it, and pass it to ``since`` in another process to continue.
        """
        self._pass_ends()
        if self._place is None:
            return None
        # An unknown log with messages has an empty epoch, so its place cannot be mistaken for one in another log.
        return self._place._replace(epoch=self._place.epoch or ("" if self._place.seq else None))

    # --- reading ----------------------------------------------------------------------------------------------------

    async def __anext__(self) -> Message:
        self._bus._check_owner()
        if not self._opened:
            await self.open()
        await self._settle()
        while True:
            if self._queue:
                message, epoch = self._queue.popleft()
                if isinstance(message, int):
                    self._place = Position(message, epoch)
                    continue
                if message.seq is not None and message.address == self.address:
                    self._place = Position(message.seq, epoch)
                    if self._keep is not None:
                        self._undone = self.position
                return message
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            behind = next((item for item in self._cursors.items() if item[1].lagging), None)
            if behind is not None:
                async with self._reading:
                    if behind[1].lagging and not self._queue:
                        await self._catch_up(*behind)
                continue
            self._arrived.clear()
            await self._arrived.wait()

    async def get(self, timeout: float | None = None) -> Message:
        """Return the next message. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        try:
            async with within(timeout, f"No message of {self.address} arrived within {timeout or 0:g} s."):
                return await self.__anext__()
        except StopAsyncIteration:
            raise BusClosed("The subscription is closed.") from None

    def _pass_ends(self) -> None:
        """Go on to the end of the last message, if it was a streamed one and the end has arrived."""
        while self._queue and isinstance(self._queue[0][0], int):
            self._place = Position(self._queue[0][0], self._queue.popleft()[1])
            self._undone = self._undone and self._place._replace(epoch=self._place.epoch or "")

    async def _settle(self) -> None:
        """Store the place of the last message. Its reader finished it by requesting another one."""
        self._pass_ends()
        place = self._undone
        if place is not None and self._keep is not None:
            await self._keep(place)
            if self._undone == place:
                self._undone = None

    async def _catch_up(self, address: str, cursor: Cursor) -> None:
        """Load a page of the history after ``cursor`` into the empty buffer. Go live after the last page."""
        limit = min(PAGE, self.buffer)
        for look in range(LOOKS):
            generation = cursor.generation
            try:
                page = await self._bus._history_frames(address, after=cursor.last or 0, limit=limit)
            except (Forbidden, NotFound):
                page, look = [], LOOKS - 1
            if generation != cursor.generation:
                return
            for frame in page:
                self._take(frame, cursor, from_history=True)
            await self._fill()
            if len(page) < limit and (cursor.last or 0) >= cursor.head:
                cursor.lagging = False
                return
            if page:
                return
            if look == LOOKS - 1:
                # The socket delivered it, but the history does not have it: deleted in the meantime, or not readable for us.
                cursor.last, cursor.lagging = cursor.head, False
                self._lost(cursor)
                return
            await asyncio.sleep(PAUSE)

    async def _fill(self) -> None:
        """Read what has grown so far, for the openings of a page of history. Their parts may have passed already."""
        for growth in list(self._growing.values()):
            if not growth.over and (growth.behind or not growth.have):
                await self._bus._refill(growth)

    # --- called by the bus, never waiting -----------------------------------------------------------------------------

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
                self._put(Message.of(frame), None)
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
        elif not own:
            gap, cursor.gap = cursor.gap, False
            self._put(Message.of(frame, after_gap=gap), cursor.epoch)

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
            self._put(Answer.grown(frame, growth, after_gap=gap), cursor.epoch)

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
            self._put(Answer.grown(frame, growth), None)
        return True

    def _notice(self, frame: dict[str, Any]) -> None:
        """Handle a presence notice of the server."""
        if self.presence and len(self._queue) < self.buffer:
            self._put(Message.of(frame), None)

    def _put(self, message: Message, epoch: str | None) -> None:
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
