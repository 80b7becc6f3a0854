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

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from .bus import Bus as AsyncBus
from .commands import ChannelInfo, ChannelRow, Joined, Status
from .connecting import connect as async_connect
from .connection import FORKED
from .errors import BusClosed
from .messages import Message, Page, Position, Receipt, Since
from .states import State
from .subscription import Subscription as AsyncSubscription

T = TypeVar("T")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="arqonbus", daemon=True)
        self._thread.start()

    @property
    def elsewhere(self) -> bool:
        """Whether this is a child process. A fork does not copy threads."""
        return os.getpid() != self._process

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return its result. Raises ``RuntimeError`` if the loop's thread is gone."""
        if self.elsewhere:
            work.close()
            raise RuntimeError(FORKED)
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "A listener of this bus must not call the bus: both run in the same thread, so the call would never return."
            )
        if self._loop.is_closed():
            work.close()
            raise BusClosed("The bus is closed.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise BusClosed("The bus is closed.") from None
        except BaseException:
            # After Ctrl+C the coroutine must not continue by itself.
            future.cancel()
            raise

    def stop(self) -> None:
        """End the thread."""
        if not self.elsewhere and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


class Subscription(Iterator[Message]):
    """Messages of one channel, each once. See :class:`arqonbus.Subscription`."""

    def __init__(self, loop: _Loop, inner: AsyncSubscription) -> None:
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

    def __next__(self) -> Message:
        try:
            return self._loop.call(self._inner.get())
        except BusClosed:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Message:
        """Return the next message. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        return self._loop.call(self._inner.get(timeout))

    @property
    def position(self) -> Position | None:
        """The place after the last message that the reader took."""
        return self._inner.position

    @property
    def gaps(self) -> int:
        """The number of gaps: times when messages were lost, because the log did not reach back far enough."""
        return self._inner.gaps


class Bus:
    """A blocking client. :func:`connect` returns it. It has the methods of :class:`arqonbus.Bus`."""

    def __init__(self, loop: _Loop, inner: AsyncBus) -> None:
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
        buffer: int | None = None,
    ) -> Subscription:
        """Subscribe to a channel. See :meth:`arqonbus.Bus.subscribe`."""

        async def make() -> AsyncSubscription:
            return self._inner.subscribe(
                address, since=since, echo=echo, broadcasts=broadcasts, presence=presence, buffer=buffer
            )

        return Subscription(self._loop, self._loop.call(make()))

    def inbox(self, *, since: Since = None, buffer: int | None = None) -> Subscription:
        """Subscribe to the private messages of this client. See :meth:`arqonbus.Bus.inbox`."""

        async def make() -> AsyncSubscription:
            return self._inner.inbox(since=since, buffer=buffer)

        return Subscription(self._loop, self._loop.call(make()))

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
    ) -> dict[str, Any]:
        """Create a lasting channel (admins)."""
        return self._loop.call(
            self._inner.create_channel(
                address, description=description, metadata=metadata, ephemeral=ephemeral, retention=retention, type=type
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
    ) -> Page:
        """Return one page of history. See :meth:`arqonbus.Bus.history_page`."""
        return self._loop.call(
            self._inner.history_page(address, limit=limit, before=before, after=after, type=type, sender=sender)
        )

    def history(
        self,
        address: str,
        *,
        since: Since = None,
        until: str | datetime | timedelta | None = None,
        type: str | None = None,
        sender: str | None = None,
    ) -> Iterator[Message]:
        """Yield every message, over all pages. See :meth:`arqonbus.Bus.history`."""
        return self._each(self._inner.history(address, since=since, until=until, type=type, sender=sender))

    def clients(self) -> Iterator[dict[str, Any]]:
        """Return every connected client."""
        return self._each(self._inner.clients())

    def _each(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._loop.call(_next(source))
                except _End:
                    return
        finally:
            self._loop.call(source.aclose())


class _End(Exception):
    """An asynchronous iterator has ended. Its own exception cannot pass through a future."""


async def _next(source: Any) -> Any:
    try:
        return await anext(source)
    except StopAsyncIteration:
        raise _End from None


def connect(url: str = "ws://localhost:8765/", **options: Any) -> Bus:
    """Connect and return a :class:`Bus`. Close it, or use ``with``.

    The options and errors are those of :func:`arqonbus.connect`.
    """
    loop = _Loop()

    async def make() -> AsyncBus:
        return await async_connect(url, **options)

    try:
        return Bus(loop, loop.call(make()))
    except BaseException:
        loop.stop()
        raise
