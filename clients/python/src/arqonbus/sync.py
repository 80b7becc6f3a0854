"""The blocking client, for code without an event loop.

::

    from arqonbus import sync

    with sync.connect("ws://localhost:8765/", client_id="me") as bus:
        bus.publish("science:explore", "hello")
        with bus.subscribe("science:explore", since=0) as messages:
            for message in messages:
                print(message.sender, message.text)

A separate thread runs the event loop. Several threads may use one bus.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self

from .blocking import Loop
from .bus import Bus as AsyncBus
from .commands import ChannelInfo, ChannelRow, Joined, Status, Stopped
from .connecting import connect as async_connect
from .errors import BusClosed
from .messages import Page, Position, Receipt, Since
from .states import State
from .stream import Stream as AsyncStream
from .subscription import Subscription as AsyncSubscription
from .sync_agents import Agent
from .sync_amending import Amending
from .sync_amending import RoomSubscription as RoomSubscription
from .sync_jobs import Job as Job
from .sync_jobs import Work as Work
from .sync_messages import Answer as Answer
from .sync_messages import Message as Message
from .sync_messages import blocking
from .sync_streams import Stream as Stream


class Subscription(Iterator[Message | Answer]):
    """Messages of one channel, each once. See :class:`arqonbus.Subscription`."""

    def __init__(self, loop: Loop, inner: AsyncSubscription) -> None:
        self._loop = loop
        self._inner = inner

    def open(self) -> Self:
        """Join the channel."""
        self._loop.call(self._inner.open())
        return self

    def close(self) -> None:
        """Leave the channel. Iterators end."""
        self._loop.call(self._inner.close())

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._loop.elsewhere:
            self._loop.call(self._inner.__aexit__(kind, error, traceback))

    def __next__(self) -> Message | Answer:
        try:
            return blocking(self._loop, self._loop.call(self._inner.get()))
        except BusClosed:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Message | Answer:
        """Return the next message. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        return blocking(self._loop, self._loop.call(self._inner.get(timeout)))

    @property
    def position(self) -> Position | None:
        """The place after the last message that the reader took."""
        return self._inner.position

    @property
    def gaps(self) -> int:
        """The number of gaps: times when messages were lost, because the log did not reach back far enough."""
        return self._inner.gaps


class Bus(Agent, Amending):
    """A blocking client. :func:`connect` returns it. It has the methods of :class:`arqonbus.Bus`."""

    def __init__(self, loop: Loop, inner: AsyncBus) -> None:
        self._loop = loop
        self._inner = inner

    def close(self) -> None:
        """Close the connection and end the thread. In a child process it does nothing: the connection is the parent's."""
        if self._loop.elsewhere:
            return
        try:
            self._loop.call(self._inner.close())
        except BusClosed:
            return
        self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def client_id(self) -> str:
        """The id that the server gave or confirmed."""
        return self._inner.client_id

    @property
    def resume_token(self) -> str | None:
        """The proof of this ``client_id``, for ``connect(resume_token=…)``. A secret."""
        return self._inner.resume_token

    @property
    def role(self) -> str:
        """The role that the server gave this client."""
        return self._inner.role

    @property
    def address(self) -> str:
        """The initial channel."""
        return self._inner.address

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._inner.state

    # --- messages -----------------------------------------------------------------------------------------------------

    def publish(
        self,
        address: str | None,
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        type: str = "event",
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        ack: bool = True,
        echo: bool | None = None,
        steer: str | Answer | None = None,
        deliver_at: str | datetime | timedelta | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Publish a message. See :meth:`arqonbus.Bus.publish`."""
        return self._loop.call(
            self._inner.publish(
                address,
                message,
                payload=payload,
                type=type,
                metadata=metadata,
                id=id,
                ack=ack,
                echo=echo,
                steer=steer,
                deliver_at=deliver_at,
                timeout=timeout,
            )
        )

    def private(
        self,
        to: str | Iterable[str],
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Send a private message to one or several clients. See :meth:`arqonbus.Bus.private`."""
        return self._loop.call(
            self._inner.private(to, message, payload=payload, metadata=metadata, id=id, timeout=timeout)
        )

    def subscribe(
        self,
        address: str,
        *,
        since: Since = None,
        echo: bool = False,
        broadcasts: bool = True,
        presence: bool = False,
        parts: bool = True,
        grow: bool = True,
        buffer: int | None = None,
        auto_mark: bool = False,
        last: int | None = None,
        fold: bool = False,
    ) -> Subscription:
        """Subscribe to a channel. See :meth:`arqonbus.Bus.subscribe`."""

        async def make() -> AsyncSubscription:
            return self._inner.subscribe(
                address,
                since=since,
                echo=echo,
                broadcasts=broadcasts,
                presence=presence,
                parts=parts,
                grow=grow,
                buffer=buffer,
                auto_mark=auto_mark,
                last=last,
                fold=fold,
            )

        return Subscription(self._loop, self._loop.call(make()))

    def inbox(
        self, *, since: Since = None, grow: bool = True, buffer: int | None = None, auto_mark: bool = False
    ) -> Subscription:
        """Subscribe to the private messages of this client. See :meth:`arqonbus.Bus.inbox`."""

        async def make() -> AsyncSubscription:
            return self._inner.inbox(since=since, grow=grow, buffer=buffer, auto_mark=auto_mark)

        return Subscription(self._loop, self._loop.call(make()))

    # --- streamed messages --------------------------------------------------------------------------------------------

    def stream(
        self,
        address: str | None,
        *,
        run: str | None = None,
        payload: Mapping[str, Any] | None = None,
        mode: str = "text",
        type: str = "event",
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
        echo: bool | None = None,
        keep: bool = False,
        roll_up: float = 0.04,
        window: int = 256,
    ) -> Stream:
        """Write a message that grows. See :meth:`arqonbus.Bus.stream`."""

        async def make() -> AsyncStream:
            return self._inner.stream(
                address,
                run=run,
                payload=payload,
                mode=mode,
                type=type,
                metadata=metadata,
                id=id,
                echo=echo,
                keep=keep,
                roll_up=roll_up,
                window=window,
            )

        return Stream(self._loop, self._loop.call(make()))

    def adopt_stream(self, of: str | Answer, *, keep: bool = True, roll_up: float = 0.04, window: int = 256) -> Stream:
        """Go on with a streamed message of an earlier process. See :meth:`arqonbus.Bus.adopt_stream`."""

        async def make() -> AsyncStream:
            return self._inner.adopt_stream(of, keep=keep, roll_up=roll_up, window=window)

        return Stream(self._loop, self._loop.call(make()))

    def stop_stream(self, of: str | Answer) -> Stopped:
        """Request the stop of a streamed message. See :meth:`arqonbus.Bus.stop_stream`."""
        return self._loop.call(self._inner.stop_stream(of))

    # --- commands -----------------------------------------------------------------------------------------------------

    def join(self, address: str) -> Joined:
        """Join a channel, and stay a member after reconnects."""
        return self._loop.call(self._inner.join(address))

    def leave(self, address: str) -> list[str]:
        """Leave a channel. Returns the remaining addresses."""
        return self._loop.call(self._inner.leave(address))

    def status(self, *, limit: int = 100, after: str = "") -> Status:
        """Return the server, its figures, channels and clients."""
        return self._loop.call(self._inner.status(limit=limit, after=after))

    def ping(self, echo: Any = None) -> dict[str, Any]:
        """Return a pong."""
        return self._loop.call(self._inner.ping(echo))

    def help(self, command: str | None = None) -> list[dict[str, Any]]:
        """Return the commands with their parameters."""
        return self._loop.call(self._inner.help(command))

    def create_channel(
        self,
        address: str,
        *,
        description: str = "",
        metadata: dict[str, Any] | None = None,
        ephemeral: bool = False,
        retention: dict[str, int] | None = None,
        type: str = "custom",
        work: Mapping[str, Any] | bool = False,
        presence: Literal["names", "counts", "none"] | None = None,
    ) -> dict[str, Any]:
        """Create a lasting channel (admins). See :meth:`arqonbus.Bus.create_channel`."""
        return self._loop.call(
            self._inner.create_channel(
                address,
                description=description,
                metadata=metadata,
                ephemeral=ephemeral,
                retention=retention,
                type=type,
                work=work,
                presence=presence,
            )
        )

    def delete_channel(self, address: str) -> dict[str, Any]:
        """Delete an empty channel (admins)."""
        return self._loop.call(self._inner.delete_channel(address))

    def list_channels(self, room: str | None = None) -> list[ChannelRow]:
        """Return the channels of one room or of all rooms."""
        return self._loop.call(self._inner.list_channels(room))

    def channel_info(self, address: str) -> ChannelInfo:
        """Return a channel's members, metadata and newest seq."""
        return self._loop.call(self._inner.channel_info(address))

    def history_page(
        self,
        address: str,
        *,
        limit: int = 50,
        before: int | str | datetime | timedelta | None = None,
        after: int | str | datetime | timedelta | None = None,
        type: str | None = None,
        sender: str | None = None,
        fold: bool = True,
    ) -> Page:
        """Return one page of history. See :meth:`arqonbus.Bus.history_page`."""
        page = self._loop.call(
            self._inner.history_page(
                address, limit=limit, before=before, after=after, type=type, sender=sender, fold=fold
            )
        )
        return Page([blocking(self._loop, message) for message in page.messages], page.next)

    def history(
        self,
        address: str,
        *,
        since: Since = None,
        until: str | datetime | timedelta | None = None,
        type: str | None = None,
        sender: str | None = None,
        fold: bool = True,
    ) -> Iterator[Message | Answer]:
        """Yield every message, over all pages. See :meth:`arqonbus.Bus.history`."""
        source = self._inner.history(address, since=since, until=until, type=type, sender=sender, fold=fold)
        return (blocking(self._loop, message) for message in self._loop.each(source))


def connect(url: str = "ws://localhost:8765/", **options: Any) -> Bus:
    """Connect and return a :class:`Bus`. Close it, or use ``with``.

    The options and errors are those of :func:`arqonbus.connect`.
    """
    loop = Loop()

    async def make() -> AsyncBus:
        return await async_connect(url, **options)

    try:
        return Bus(loop, loop.call(make()))
    except BaseException:
        loop.stop()
        raise
