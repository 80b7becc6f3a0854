"""Write a streamed message: each piece is kept once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import aclosing, suppress
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .cutting import Pieces
from .errors import ArqonBusError, ServerError, StreamEnded
from .owner import Owner
from .owning import ABORTED, COMPLETE, OPEN, STOPPED
from .requests import within
from .steering import Steer, Steering
from .values import encode

if TYPE_CHECKING:
    from .streaming import Streaming

logger = logging.getLogger("arqonbus.client")

#: How long the end of a failed block waits for its acknowledgement, in seconds.
ABORTING = 5.0

_PLAIN_RUN = re.compile(r"[A-Za-z0-9_.-]{1,100}")


def id_of(run: str) -> str:
    """Return the id of the stream of a run. Every process computes the same one."""
    if _PLAIN_RUN.fullmatch(run):
        return f"arq_{run}"
    return f"arq_{hashlib.sha256(run.encode()).hexdigest()[:32]}"


class Stream(Owner):
    """A streamed message that this process writes. :meth:`Bus.stream` and :meth:`Bus.adopt_stream` return it.

    ``async with`` opens it. The end of the block ends it: ``complete``, ``stopped`` after a stop request, ``aborted`` after an
    exception.
    """

    def __init__(
        self,
        bus: Streaming,
        of: str,
        opening: dict[str, Any] | None,
        *,
        mode: str = "text",
        keep: bool = True,
        roll_up: float = 0.04,
        window: int = 256,
        shared: bool = False,
        place: str = "",
        run: str | None = None,
    ) -> None:
        if mode not in ("text", "parts"):
            raise ValueError("`mode` must be text or parts.")
        if isinstance(roll_up, bool) or not isinstance(roll_up, (int, float)):
            raise TypeError("`roll_up` must be a number of seconds.")
        if not 0 <= roll_up < inf:
            raise ValueError("`roll_up` must be 0 seconds or more.")
        super().__init__(bus, of, opening, mode=mode, keep=keep, window=window, shared=shared, place=place, run=run)
        self._roll_up = roll_up
        self._text: list[str] = []
        self._pieces = Pieces()
        self._timer: asyncio.TimerHandle | None = None
        self._next_cut = 0.0
        self._steering = Steering()

    # --- life -----------------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the stream, or adopt it. Raises ``Forbidden``, ``LimitReached``, ``StreamEnded`` and other ``ServerError``."""
        await self._open()
        return self

    def __await__(self) -> Generator[Any, None, Self]:
        """Make ``await bus.stream(…)`` the same as ``await bus.stream(…).open()``. Then end it with :meth:`end`."""
        return self.open().__await__()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self.end()
        except Exception as problem:
            if isinstance(problem, ServerError) or not self._owning.ending:
                await self._abort()
            raise
        if kind is not None:
            await self._abort()

    async def _abort(self) -> None:
        # The server may refuse the last text, and then takes the end without it.
        for _ in range(2):
            if self._gone:
                return
            self._finish(ABORTED, None)
            # Without an answer it is still sent in the background. Without that, the server ends the stream itself.
            with suppress(ArqonBusError, TimeoutError):
                await self._settled(ABORTING)
            if self._owning.ending:
                return

    # --- writing --------------------------------------------------------------------------------------------------------

    async def write(self, text: str) -> None:
        """Add a text. Texts of ``roll_up`` seconds become one part, and a long text several ones.

        It waits while ``window`` parts are not acknowledged. Raises ``StreamLost`` if another process adopted the stream,
        ``StreamEnded`` if the server ended it, ``FrameTooLarge`` when the whole message reaches the server's limit,
        ``Unsendable`` for half a character, and ``TypeError`` for anything but a text.
        """
        if self.mode != "text":
            raise TypeError("A stream in the mode parts takes parts. Use `part`.")
        if not isinstance(text, str):
            raise TypeError(f"A streamed text grows by strings, and not by {type(text).__name__}.")
        self._check()
        if not text:
            return
        encode({"delta": text})
        self._text.append(text)
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_cut:
            self._cut()
            await asyncio.sleep(0)
        elif self._timer is None:
            self._timer = loop.call_at(self._next_cut, self._cut)
        await self._until(lambda: self._owning.room)

    def _cut(self) -> None:
        """Make parts of the waiting text, as far as there is room for them."""
        self._untimed()
        ready = self._owning.room and not self._owning.ending and self._failure is None
        if self._text and ready:
            self._next_cut = asyncio.get_running_loop().time() + self._roll_up
            rest = self._joined()
            while rest and self._owning.room:
                piece, rest = self._pieces.cut(rest, self._bus._pacer.frame_bytes)
                self._owning.add({"delta": piece}, self._steering.taking())
            self._text = [rest] if rest else []
            self._wake.set()

    def _untimed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _joined(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text

    async def part(self, part: Mapping[str, Any]) -> None:
        """Add a part: any JSON object. It waits while ``window`` parts are not acknowledged. Raises as :meth:`write` does."""
        if self.mode != "parts":
            raise TypeError('A stream in the mode text takes texts. Use `write`, or open it with mode="parts".')
        if not isinstance(part, Mapping):
            raise TypeError(f"A part is a JSON object, and not {type(part).__name__}.")
        self._check()
        encode({"part": {**part}})
        await self._until(lambda: self._owning.room)
        self._owning.add({"part": {**part}}, self._steering.taking())
        self._wake.set()
        await asyncio.sleep(0)

    async def pipe(self, source: Any) -> None:
        """Add everything that an asynchronous iterator yields: texts, objects, or the events of an agent framework.

        It ends with the iterator. After a stop request it closes the iterator and returns, and the stream ends ``stopped``.
        Raises the iterator's error, and the errors of :meth:`write`.
        """
        draining = asyncio.ensure_future(self._drain(source))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait({draining, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            ours = not draining.done()
            if ours:
                draining.cancel()
                await asyncio.wait({draining})
        problem = None if draining.cancelled() else draining.exception()
        if problem is not None:
            if not ours and not (self.stop_requested and isinstance(problem, StreamEnded)):
                raise problem
            logger.debug("the source of the stream %s failed when it was closed: %r", self.of, problem)
        if not self.stop_requested:
            self._check()

    async def _drain(self, source: Any) -> None:
        from .agents import pieces  # Only streams that pipe need the adapters.

        async with aclosing(pieces(source, mode=self.mode, run=self.of, thread=self.address)) as those:
            async for piece in those:
                if self.stop_requested:
                    return
                await (self.write(piece) if isinstance(piece, str) else self.part(piece))

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything written is kept. Raises ``TimeoutError``, and the errors of :meth:`write`."""
        seconds = self._bus._timeout if timeout is None else timeout
        async with within(seconds, f"The server did not keep all parts within {seconds:g} s."):
            while True:
                self._check()
                self._cut()
                if not self._text and self._owning.have == self._owning.last:
                    return
                await self._next_move()

    async def end(self, state: str | None = None, *, payload: Mapping[str, Any] | None = None) -> None:
        """End the stream with a state (``complete`` by default) and a payload, and wait for the acknowledgement.

        After a stop request the state is ``stopped``. The end of the block calls this by itself. Raises ``TimeoutError``,
        ``StreamLost``, ``StreamEnded`` …
        """
        if self._owning.state != OPEN and (self._failure is None or self._owning.state == STOPPED):
            return  # It has ended, or the server was faster than we were.
        self._check()
        body = None if payload is None else {**payload}
        encode({"payload": body})
        if not self._owning.ending:
            self._finish(STOPPED if self.stop_requested else state or COMPLETE, body)
        await self._settled(self._bus._timeout)

    def _finish(self, state: str, payload: dict[str, Any] | None) -> None:
        self._untimed()
        if self._failure is not None:
            # The server refused a part. What it has is the stream.
            self._failure = None
            self._text.clear()
        text, rest = self._pieces.cut(self._joined(), self._bus._pacer.frame_bytes)
        while rest:
            self._owning.add({"delta": text}, self._steering.taking())
            text, rest = self._pieces.cut(rest, self._bus._pacer.frame_bytes)
        self._owning.finish(state, payload, {"delta": text} if text else None, self._steering.taking())
        self._wake.set()
        self._move()

    async def _settled(self, seconds: float) -> None:
        async with within(seconds, f"The end of the stream {self.of} was not acknowledged within {seconds:g} s."):
            while self._owning.state == OPEN:
                self._check()
                await self._next_move()
        if self._failure is not None and self._owning.state != STOPPED:
            raise self._failure

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._next_move()
            self._check()

    # --- steers ---------------------------------------------------------------------------------------------------------

    async def steers(self) -> AsyncIterator[Steer]:
        """Yield the messages that want to steer this stream, until its end. Call ``took()`` of each that the model has."""
        while True:
            while (steer := self._steering.next()) is not None:
                yield steer
            if self._owning.ending or self._failure is not None or self._owning.state != OPEN:
                return
            await self._next_move()

    def waiting_steers(self) -> list[Steer]:
        """Return the messages that want to steer this stream and wait now. For programs that do not iterate."""
        return list(iter(self._steering.next, None))

    def _steered(self, frame: dict[str, Any]) -> None:
        if self._steering.came(frame):
            self._move()

    def _finished(self, untaken: Any) -> None:
        self.untaken = tuple(untaken) if isinstance(untaken, list) else self._steering.left

    def _progressed(self) -> None:
        self._cut()
