"""The iterator over a channel's messages: each one exactly once, in order, however often the connection breaks.

A subscription remembers, for every log that it hears, the last message it has taken. What the server sends again after a
break is recognised by that. Memory is bounded: when ``buffer`` messages wait, the subscription stops taking live ones and,
as soon as its reader has caught up, reads what it left out from the channel's history. So a slow iterator holds up neither
the connection nor other iterators, and loses nothing that the history still has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import BusClosed, Forbidden, NotFound
from .heard import joinable
from .messages import INBOX_ROOM, WHOLE, Message, Position, Since, split_address
from .requests import within

if TYPE_CHECKING:
    from .bus import Bus

#: Pages of history are as large as the server gives them.
PAGE = 500
#: A head that the history does not show: how often to look again before taking it for lost, and the pause between (seconds).
LOOKS, PAUSE = 20, 0.05


@dataclass
class _Cursor:
    """How far one log was taken."""

    last: int | None = None
    #: Which log it is; None as long as nobody said it.
    epoch: str | None = None
    #: The highest seq that went by without being taken.
    head: int = 0
    lagging: bool = False
    gap: bool = False
    #: Counts resets, so that a page of history that was asked for before one is not used after it.
    generation: int = 0


class Subscription(AsyncIterator[Message]):
    """Messages of one channel. Made by :meth:`Bus.subscribe`; iterate over it, or use it as a context manager.

    ``async with`` joins the channel at once and leaves it at the end; without it the first message asked for joins, and the
    subscription ends when nobody refers to it any more.
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
        buffer: int = 1000,
        keep: Callable[[Position], Awaitable[None]] | None = None,
    ) -> None:
        if buffer < 1:
            raise ValueError("buffer must be 1 or more")
        self._bus = bus
        self.room, self.channel = split_address(address)
        #: ``room:channel``.
        self.address = f"{self.room}:{self.channel}"
        self.since = since
        self.echo = echo
        self.broadcasts = broadcasts
        self.presence = presence
        self.buffer = buffer
        #: Messages of ephemeral channels that found no room in the buffer; nothing else is ever dropped.
        self.dropped = 0
        #: How often messages were lost because the log did not reach back far enough.
        self.gaps = 0
        #: The messages that wait, each with the epoch of its log.
        self._queue: deque[tuple[Message, str | None]] = deque()
        self._cursors: dict[str, _Cursor] = {}
        self._arrived = asyncio.Event()
        self._error: BaseException | None = None
        self._opened = False
        self._closed = False
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        #: After the last message that was handed out, before the first one: where it began.
        self._place: Position | None = None
        #: Called with the place behind a message that its reader is done with.
        self._keep = keep
        self._undone: Position | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether it stands for a channel's membership: an inbox and a whole room's log come by themselves."""
        return joinable(self.address)

    async def open(self) -> Self:
        """Join the channel; messages from now on (or from ``since`` on) are kept for the reader.

        Raises ``ServerError`` (``Forbidden``, ``ChannelNotFound``, ``LimitReached`` …) when the server does not let you in.
        """
        async with self._opening:
            if not self._opened and not self._closed:
                await self._bus._memberships.attach(self)
                self._opened = True
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """``await bus.subscribe(…)`` is ``await bus.subscribe(…).open()``."""
        return self.open().__await__()

    async def close(self) -> None:
        """End it; iterating ends, and the channel is left unless something else of this bus needs it."""
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
        # What its reader failed at is not done: where its place is kept, the next one begins with it again.
        await self._end(done=kind is None)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def error(self) -> BaseException | None:
        """What ended it, if that was not :meth:`close`; whoever iterates gets it raised."""
        return self._error

    @property
    def waiting(self) -> int:
        """Messages in the buffer."""
        return len(self._queue)

    @property
    def position(self) -> Position | None:
        """After the last message that was handed out (before the first one: where it began, once it is open).

        Keep it, and give it to ``since`` in another process to go on.
        """
        if self._place is None:
            return None
        # An unknown log with messages is told as such (an empty text), and never taken for a place in another one.
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
        """The next message. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` when the subscription has ended."""
        try:
            async with within(timeout, f"No message of {self.address} came within {timeout or 0:g} s."):
                return await self.__anext__()
        except StopAsyncIteration:
            raise BusClosed("The subscription is closed.") from None

    async def _settle(self) -> None:
        """Keep the place of the last message, of which its reader says by asking for another that it is done."""
        place = self._undone
        if place is not None and self._keep is not None:
            await self._keep(place)
            if self._undone == place:
                self._undone = None

    async def _catch_up(self, address: str, cursor: _Cursor) -> None:
        """Put a page of the history behind ``cursor`` into the empty buffer, and go live when that was the last one."""
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
            if len(page) == limit:
                return
            if (cursor.last or 0) >= cursor.head:
                cursor.lagging = False
                return
            if page:
                return
            if look == LOOKS - 1:
                # It went by on the socket and is not in the history: pruned meanwhile, or not for us to read.
                cursor.last, cursor.lagging = cursor.head, False
                self._lost(cursor)
                return
            await asyncio.sleep(PAUSE)

    # --- called by the bus, never waiting -----------------------------------------------------------------------------

    def _begin(self, address: str, at: Position, *, gap: bool = False) -> None:
        """Messages of a log are wanted from behind ``at``; ``gap``: some before it are lost."""
        if self._place is None and address == self.address:
            self._place = at
        cursor = self._cursors.setdefault(address, _Cursor())
        cursor.last = cursor.head = at.seq
        cursor.epoch = at.epoch
        cursor.lagging = False
        cursor.generation += 1
        if gap:
            self._lost(cursor)

    def _lost(self, cursor: _Cursor) -> None:
        """The next message comes after a hole, which is counted once."""
        if not cursor.gap:
            cursor.gap = True
            self.gaps += 1

    def _restart(self) -> None:
        """Its opening was given up: a new one begins without anything of it."""
        self._queue.clear()
        self._cursors.clear()
        self._place = None

    def _learn(self, address: str, epoch: str) -> None:
        """Which log it is that was heard up to here."""
        cursor = self._cursors.get(address)
        if cursor is None or cursor.epoch is not None:
            return
        cursor.epoch = epoch
        if address == self.address:
            self._queue = deque((message, known or epoch) for message, known in self._queue)
            if self._place is not None and not self._place.epoch:
                self._place = Position(self._place.seq, epoch)

    def _follow(self, address: str, head: int) -> None:
        """Take what is behind the cursor, up to ``head`` at least, from the history before anything live."""
        cursor = self._cursors.setdefault(address, _Cursor(last=0))
        cursor.lagging = True
        cursor.head = max(cursor.head, head)
        self._arrived.set()

    def _wants(self, address: str) -> bool:
        room, _, channel = address.partition(":")
        if address == self.address:
            return True
        return self.broadcasts and channel == WHOLE and room in (self.room, WHOLE) and self.room != INBOX_ROOM

    def _offer(self, address: str, frame: dict[str, Any]) -> None:
        """A live frame, perhaps one that was sent before."""
        seq = frame.get("seq")
        if not isinstance(seq, int):
            if frame.get("from") == self._bus.client_id and not self.echo:
                return
            if len(self._queue) >= self.buffer:
                self.dropped += 1
            else:
                self._put(Message.of(frame), None)
            return
        cursor = self._cursors.setdefault(address, _Cursor())
        if cursor.last is not None and seq <= cursor.last:
            return
        if cursor.lagging:
            cursor.head = max(cursor.head, seq)
        elif len(self._queue) >= self.buffer and (frame.get("from") != self._bus.client_id or self.echo):
            if address.endswith(f":{WHOLE}"):
                # A room's own log cannot be read by seq; its announcements are few and must not be lost silently.
                cursor.last = seq
                self._lost(cursor)
                return
            cursor.lagging, cursor.head = True, seq
            if cursor.last is None:
                cursor.last = seq - 1
        else:
            self._take(frame, cursor, from_history=False)

    def _take(self, frame: dict[str, Any], cursor: _Cursor, *, from_history: bool) -> None:
        seq = frame["seq"]
        if cursor.last is not None:
            if seq <= cursor.last:
                return
            # Live, a hole is a message of our own. The history has everything, so there it is what was pruned.
            if from_history and seq > cursor.last + 1 and cursor.last > 0:
                self._lost(cursor)
        cursor.last = seq
        if frame.get("from") == self._bus.client_id and not self.echo:
            return
        gap, cursor.gap = cursor.gap, False
        self._put(Message.of(frame, after_gap=gap), cursor.epoch)

    def _notice(self, frame: dict[str, Any]) -> None:
        """A presence notice of the server."""
        if self.presence and len(self._queue) < self.buffer:
            self._put(Message.of(frame), None)

    def _put(self, message: Message, epoch: str | None) -> None:
        self._queue.append((message, epoch))
        self._arrived.set()

    def _finish(self) -> None:
        """What is in the buffer is still handed out; then it ends."""
        self._closed = True
        self._arrived.set()

    def _fail(self, error: BaseException) -> None:
        """What is in the buffer is still handed out; after it comes the error."""
        self._error = error
        self._arrived.set()
