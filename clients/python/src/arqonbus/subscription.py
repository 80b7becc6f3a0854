"""The iterator over a channel's messages: each one exactly once, in order, across reconnects.

A subscription remembers its last message in every log that it follows, so it recognises repeated messages. Its memory is
bounded. If ``buffer`` messages wait, it stops storing live ones. When its reader has caught up, it reads the others from the
history. So a slow iterator delays neither the connection nor other iterators, and loses nothing that the history has.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .cursor import Cursor
from .errors import BusClosed, Forbidden, NotFound
from .heard import joinable
from .incoming import Incoming
from .marks import Follower
from .messages import Message, Position, Since
from .requests import within

if TYPE_CHECKING:
    from .bus import Bus

#: The size of a page of history: the server's maximum.
PAGE = 500
#: If the history does not show the newest message: how often to read again before it counts as lost, and the pause (seconds).
LOOKS, PAUSE = 20, 0.05
#: How long the end of a subscription waits for its last mark, in seconds.
MARKING = 5.0


class Subscription(Incoming, AsyncIterator[Message]):
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
        last: int | None = None,
        fold: bool = False,
        keep: Callable[[Position], Awaitable[None]] | None = None,
        auto_mark: bool = False,
        wants: Callable[[dict[str, Any]], bool] | None = None,
    ) -> None:
        super().__init__(
            bus,
            address,
            # A message can only be folded with the amendments of this client, too.
            echo=echo or fold,
            broadcasts=broadcasts,
            presence=presence,
            parts=parts,
            grow=grow,
            buffer=buffer,
            fold=fold,
            wants=wants,
        )
        if last is not None and since is not None:
            raise ValueError("Give either `since` or `last`.")
        self.since = since
        #: How many of the newest messages it begins with.
        self.last = last
        self._opened = False
        self._opening = asyncio.Lock()
        self._reading = asyncio.Lock()
        #: Called with the place after a message that its reader finished.
        self._keep = keep
        self._undone: Position | None = None
        if auto_mark:
            self._follower = bus._marks.follow(Follower, self.address, weakref.WeakMethod(self._fail))

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
            if self._follower is not None:
                await self._bus._marks.settled(self.address, seconds=MARKING)
                self._follower.close()
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
                    self._follow_up()
                    continue
                if message.seq is not None and message.address == self.address:
                    self._place = Position(message.seq, epoch)
                    if self._keep is not None or self._follower is not None:
                        self._undone = self.position
                self._took(message, epoch)
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

    def _took(self, message: Message, epoch: str | None) -> None:
        """Note that the reader takes a message of the log with this epoch."""

    def _pass_ends(self) -> None:
        """Go on to the end of the last message, if it was a streamed one and the end has arrived."""
        while self._queue and isinstance(self._queue[0][0], int):
            self._place = Position(self._queue[0][0], self._queue.popleft()[1])
            self._undone = self._undone and self._place._replace(epoch=self._place.epoch or "")

    async def _settle(self) -> None:
        """Store the place of the last message. Its reader finished it by requesting another one."""
        self._pass_ends()
        place = self._undone
        if place is not None:
            if self._keep is not None:
                await self._keep(place)
            if self._undone == place:
                self._undone = None
        self._follow_up()

    def _follow_up(self) -> None:
        """Move the mark on, if no message is in work."""
        if self._follower is not None and self._undone is None and self._place is not None:
            self._follower.done(self._place)

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
