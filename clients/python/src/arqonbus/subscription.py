"""The iterator over a channel's messages: each one exactly once, in order, however often the connection breaks.

A subscription remembers, for every log that it hears, the last message it has taken. What the server sends again after a
break is recognised by that. Memory is bounded: when ``buffer`` messages wait, the subscription stops taking live ones and,
as soon as its reader has caught up, reads what it left out from the channel's history. So a slow iterator holds up neither
the connection nor other iterators, and loses nothing that the history still has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import BusClosed, Forbidden, NotFound
from .messages import INBOX_ROOM, WHOLE, Message, Position, Since, split_address

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
        self._queue: deque[Message] = deque()
        self._cursors: dict[str, _Cursor] = {}
        self._arrived = asyncio.Event()
        self._error: BaseException | None = None
        self._opened = False
        self._closed = False
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        #: After the last message that was handed out, before the first one: where it began.
        self._place: int | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether it stands for a channel's membership: an inbox and a whole room's log come by themselves."""
        return self.room not in (INBOX_ROOM, WHOLE) and self.channel != WHOLE

    @property
    def wants_membership(self) -> bool:
        """Whether it needs the client to be a member of its channel."""
        return self._opened and self.joinable

    async def open(self) -> Self:
        """Join the channel; messages from now on (or from ``since`` on) are kept for the reader.

        Raises ``ServerError`` (``Forbidden``, ``ChannelNotFound``, ``LimitReached`` …) when the server does not let you in.
        """
        async with self._opening:
            if not self._opened and not self._closed:
                await self._bus._attach(self)
                self._opened = True
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """``await bus.subscribe(…)`` is ``await bus.subscribe(…).open()``."""
        return self.open().__await__()

    async def close(self) -> None:
        """End it; iterating ends, and the channel is left unless something else of this bus needs it."""
        if not self._closed:
            self._finish()
            await self._bus._detach(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

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
        return None if self._place is None else Position(self._place, self._bus._epoch_of(self.address))

    # --- reading ----------------------------------------------------------------------------------------------------

    async def __anext__(self) -> Message:
        if not self._opened:
            await self.open()
        while True:
            if self._queue:
                message = self._queue.popleft()
                if message.seq is not None and message.address == self.address:
                    self._place = message.seq
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
            async with asyncio.timeout(timeout):
                return await self.__anext__()
        except StopAsyncIteration:
            raise BusClosed("The subscription is closed.") from None

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
                cursor.last, cursor.lagging, cursor.gap = cursor.head, False, True
                self.gaps += 1
                return
            await asyncio.sleep(PAUSE)

    # --- called by the bus, never waiting -----------------------------------------------------------------------------

    def _begin(self, address: str, seq: int | None, *, gap: bool = False) -> None:
        """Set the place from which messages of a log are wanted."""
        if self._place is None and address == self.address:
            self._place = seq
        cursor = self._cursors.setdefault(address, _Cursor())
        cursor.last = seq
        cursor.lagging = False
        cursor.head = seq or 0
        cursor.generation += 1
        if gap:
            cursor.gap = True
            self.gaps += 1

    def _follow(self, address: str) -> None:
        """Take what is behind the cursor from the history before anything live."""
        self._cursors.setdefault(address, _Cursor(last=0)).lagging = True
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
                self._put(Message.of(frame))
            return
        cursor = self._cursors.setdefault(address, _Cursor())
        if cursor.last is not None and seq <= cursor.last:
            return
        if cursor.lagging:
            cursor.head = max(cursor.head, seq)
        elif len(self._queue) >= self.buffer and (frame.get("from") != self._bus.client_id or self.echo):
            if address.endswith(f":{WHOLE}"):
                # A room's own log cannot be read by seq; its announcements are few and must not be lost silently.
                cursor.last, cursor.gap = seq, True
                self.gaps += 1
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
                cursor.gap = True
                self.gaps += 1
        cursor.last = seq
        if frame.get("from") == self._bus.client_id and not self.echo:
            return
        gap, cursor.gap = cursor.gap, False
        self._put(Message.of(frame, after_gap=gap))

    def _notice(self, frame: dict[str, Any]) -> None:
        """A presence notice of the server."""
        if self.presence and len(self._queue) < self.buffer:
            self._put(Message.of(frame))

    def _put(self, message: Message) -> None:
        self._queue.append(message)
        self._arrived.set()

    def _finish(self) -> None:
        """What is in the buffer is still handed out; then it ends."""
        self._closed = True
        self._arrived.set()

    def _fail(self, error: BaseException) -> None:
        """What is in the buffer is still handed out; after it comes the error."""
        self._error = error
        self._arrived.set()
