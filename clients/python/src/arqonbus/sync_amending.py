"""Amendments and followed rooms in the blocking client. ``sync`` has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from . import bus as buses
from . import messages
from .blocking import Loop
from .errors import BusClosed
from .following import RoomSubscription as AsyncRoomSubscription
from .messages import Position, Receipt
from .sync_messages import Answer, Message, blocking


class RoomSubscription(Iterator[Message | Answer]):
    """Messages of all channels of a room, each once. See :class:`arqonbus.RoomSubscription`."""

    def __init__(self, loop: Loop, inner: AsyncRoomSubscription) -> None:
        self._loop = loop
        self._inner = inner

    def open(self) -> Self:
        """Begin to follow."""
        self._loop.call(self._inner.open())
        return self

    def close(self) -> None:
        """Follow no longer. Iterators end."""
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
            return self.get()
        except BusClosed:
            raise StopIteration from None

    def get(self, timeout: float | None = None) -> Message | Answer:
        """Return the next message. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        return blocking(self._loop, self._loop.call(self._inner.get(timeout)))

    @property
    def positions(self) -> dict[str, Position]:
        """The places after the last messages that the reader took, by the name of the channel."""
        return self._inner.positions

    @property
    def channels(self) -> set[str]:
        """The names of the channels that are followed now."""
        return self._inner.channels

    @property
    def truncated(self) -> bool:
        """Whether the room has more channels than one connection may follow."""
        return self._inner.truncated

    @property
    def gaps(self) -> int:
        """The number of gaps: times when messages were lost."""
        return self._inner.gaps


class Amending:
    """Amendments and followed rooms."""

    _loop: Loop
    _inner: buses.Bus

    def follow(
        self,
        room: str,
        *,
        since: Mapping[str, Position] | None = None,
        presence: bool = False,
        echo: bool = False,
        fold: bool = False,
        buffer: int | None = None,
    ) -> RoomSubscription:
        """Follow all channels of a room. See :meth:`arqonbus.Bus.follow`."""

        async def make() -> AsyncRoomSubscription:
            return self._inner.follow(room, since=since, presence=presence, echo=echo, fold=fold, buffer=buffer)

        return RoomSubscription(self._loop, self._loop.call(make()))

    def edit(
        self,
        message: messages.Message | Receipt | str,
        text: str | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Replace the text or the payload of a message. See :meth:`arqonbus.Bus.edit`."""
        return self._loop.call(
            self._inner.edit(message, text, payload=payload, address=address, id=id, timeout=timeout)
        )

    def delete(
        self,
        message: messages.Message | Receipt | str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Delete a message for its readers. See :meth:`arqonbus.Bus.delete`."""
        return self._loop.call(self._inner.delete(message, address=address, id=id, timeout=timeout))

    def react(
        self,
        message: messages.Message | Receipt | str,
        reaction: str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """React to a message. See :meth:`arqonbus.Bus.react`."""
        return self._loop.call(self._inner.react(message, reaction, address=address, id=id, timeout=timeout))

    def unreact(
        self,
        message: messages.Message | Receipt | str,
        reaction: str,
        *,
        address: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Take the own reaction back. See :meth:`arqonbus.Bus.unreact`."""
        return self._loop.call(self._inner.unreact(message, reaction, address=address, id=id, timeout=timeout))

    def erase_message(self, address: str, seq: int) -> dict[str, Any]:
        """Erase what a message says for good (managers). See :meth:`arqonbus.Bus.erase_message`."""
        return self._loop.call(self._inner.erase_message(address, seq))
