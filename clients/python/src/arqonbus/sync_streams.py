"""Streamed messages in the blocking client: the owner's side and the reader's side. ``sync`` has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from . import steering
from . import stream as streams
from .agents import pieces_sync
from .blocking import Loop
from .errors import StreamEnded
from .requests import within
from .sync_messages import blocking


class Flag:
    """Whether a stop was requested: a truth value that can be waited for."""

    def __init__(self, loop: Loop, inner: streams.Stream) -> None:
        self._loop = loop
        self._inner = inner

    def __bool__(self) -> bool:
        return self._inner.stop_requested.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a request, at most ``timeout`` seconds and until the stream is over. Returns whether it came."""

        async def wait() -> None:
            async with within(timeout, "No stop was requested."):
                await self._inner._over.wait()

        with suppress(TimeoutError):
            self._loop.call(wait())
        return bool(self)


class Steer:
    """A message that wants to steer a stream. See :class:`arqonbus.Steer`."""

    def __init__(self, loop: Loop, inner: steering.Steer) -> None:
        self._loop = loop
        self._inner = inner
        self.message = blocking(loop, inner.message)
        self.id, self.sender = inner.id, inner.sender
        self.text, self.payload = inner.text, inner.payload

    def took(self) -> None:
        """Say that the model has this message."""

        async def took() -> None:
            self._inner.took()

        self._loop.call(took())


class Stream:
    """A streamed message that this process writes. See :class:`arqonbus.Stream`."""

    def __init__(self, loop: Loop, inner: streams.Stream) -> None:
        self._loop = loop
        self._inner = inner
        #: Whether somebody requested a stop.
        self.stop_requested = Flag(loop, inner)

    def open(self) -> Self:
        """Open the stream, or adopt it."""
        self._loop.call(self._inner.open())
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._loop.elsewhere:
            self._loop.call(self._inner.__aexit__(kind, error, traceback))

    @property
    def of(self) -> str:
        """The id of the message, which names the stream."""
        return self._inner.of

    @property
    def mode(self) -> str:
        """``text`` or ``parts``."""
        return self._inner.mode

    @property
    def address(self) -> str:
        """The address ``room:channel``. Empty for an adopted stream."""
        return self._inner.address

    @property
    def seq(self) -> int | None:
        """Seq of the opening."""
        return self._inner.seq

    @property
    def end_seq(self) -> int | None:
        """Seq of the end. None before."""
        return self._inner.end_seq

    @property
    def state(self) -> str:
        """``open``, then ``complete``, ``aborted`` or ``stopped``. ``lost`` if another process owns the stream."""
        return self._inner.state

    @property
    def have(self) -> int:
        """The number of the last part that the server has kept."""
        return self._inner.have

    @property
    def attempt(self) -> int:
        """The number of owners so far."""
        return self._inner.attempt

    @property
    def untaken(self) -> tuple[str, ...]:
        """The ids of the steers that were not taken. Known after the end."""
        return self._inner.untaken

    def write(self, text: str) -> None:
        """Add a text. See :meth:`arqonbus.Stream.write`."""
        self._loop.call(self._inner.write(text))

    def part(self, part: Mapping[str, Any]) -> None:
        """Add a part: any JSON object."""
        self._loop.call(self._inner.part(part))

    def pipe(self, source: Any) -> None:
        """Add everything that an iterator yields. An asynchronous one runs in the thread of the bus.

        After a stop request it closes the iterator at its next item, and returns.
        """
        if hasattr(source, "__aiter__"):
            self._loop.call(self._inner.pipe(source))
            return
        pieces = pieces_sync(source, mode=self.mode, run=self.of, thread=self.address)
        try:
            for piece in pieces:
                if self.stop_requested:
                    return
                self.write(piece) if isinstance(piece, str) else self.part(piece)
        except StreamEnded:
            if not self.stop_requested:
                raise
        finally:
            pieces.close()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything written is kept."""
        self._loop.call(self._inner.flush(timeout))

    def end(self, state: str | None = None, *, payload: Mapping[str, Any] | None = None) -> None:
        """End the stream with a state and a payload. See :meth:`arqonbus.Stream.end`."""
        self._loop.call(self._inner.end(state, payload=payload))

    def steers(self) -> Iterator[Steer]:
        """Yield the messages that want to steer this stream, until its end. It waits for them: use a thread of its own."""
        return (Steer(self._loop, steer) for steer in self._loop.each(self._inner.steers()))

    def waiting_steers(self) -> list[Steer]:
        """Return the messages that want to steer this stream and wait now."""

        async def waiting() -> list[steering.Steer]:
            return self._inner.waiting_steers()

        return [Steer(self._loop, steer) for steer in self._loop.call(waiting())]
