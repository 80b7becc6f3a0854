"""The owner of a streamed message on its connection: it opens, sends, returns after a lost connection, and hears refusals.

:class:`arqonbus.Stream` is what programs use. ``owning`` has the bookkeeping.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from . import echoing, errors
from .backoff import Backoff
from .errors import ArqonBusError, StreamEnded, StreamLost
from .owning import ABORTED, COMPLETE, OPEN, STOPPED, Owning, PartsLost

if TYPE_CHECKING:
    from .streaming import Streaming


class Flag(asyncio.Event):
    """An event that is also a truth value: ``if out.stop_requested`` and ``await out.stop_requested.wait()``."""

    def __bool__(self) -> bool:
        return self.is_set()


class Owner(ABC):
    """One streamed message that this process owns."""

    def __init__(
        self,
        bus: Streaming,
        of: str,
        opening: dict[str, Any] | None,
        *,
        mode: str,
        keep: bool,
        window: int,
        shared: bool,
        place: str = "",
        run: str | None = None,
    ) -> None:
        self._bus = bus
        self._opening = opening
        self._keep = keep
        #: Whether other processes may know this id, so that the stream may have been opened before.
        self._shared = shared
        #: The address that the opening asks for; empty for the initial one. And the program's name of the message.
        self._place = place
        self._run = run
        self._owning = Owning(of, window)
        #: The id of the message, which names the stream.
        self.of = of
        self.mode = mode
        #: The address ``room:channel``. Empty for an adopted stream.
        self.address = ""
        #: Seq of the opening and of the end, when they are known.
        self.seq: int | None = None
        self.end_seq: int | None = None
        #: Whether somebody requested a stop. An event, and a truth value.
        self.stop_requested = Flag()
        self._over = asyncio.Event()
        self._failure: Exception | None = None
        #: Whether the server does not let us go on, so that not even the end can be sent.
        self._dead = False
        self._moved = asyncio.Event()
        self._wake = asyncio.Event()
        #: The number of the connection on which the server has told what it has. The stream sends on no other one.
        self._ready_on = 0
        self._returning = False
        self._backoff = Backoff()
        self._pause: asyncio.TimerHandle | None = None
        self._opened = False
        #: The ids of the steers that were not taken. Known after the end.
        self.untaken: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """``open``, then ``complete``, ``aborted`` or ``stopped``. ``lost`` if another process owns the stream."""
        return "lost" if isinstance(self._failure, StreamLost) else self._owning.state

    @property
    def have(self) -> int:
        """The number of the last part that the server has kept."""
        return self._owning.have

    @property
    def attempt(self) -> int:
        """The number of owners so far."""
        return self._owning.attempt

    # --- opening --------------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._opened:
            return
        try:
            if self._opening is None:
                await self._adopt()
            else:
                await self._begin(self._opening)
        except (asyncio.CancelledError, TimeoutError) as problem:
            # The server may have opened it, and nobody would end it. But a run is opened again, by its name.
            if isinstance(problem, asyncio.CancelledError) or not self._shared:
                self._bus._spawn(self._abandon())
            raise
        self._opened = True
        self._bus._streams.add(self)
        if self._ready_on != self._bus.connections:
            self._back()
        self._bus._spawn(self._send_parts())

    async def _begin(self, opening: dict[str, Any]) -> None:
        try:
            answer = await self._bus._request(opening, repeat=True, timeout=None, on_answer=self._connected)
        except errors.ValidationFailed as problem:
            named = [row.get("field") for row in problem.details if isinstance(row, dict)]
            if not self._shared or "id" not in named:
                raise
            await self._adopt_there()  # Another client opened the stream of this run.
            return
        told = answer.get("stream")
        if not isinstance(told, dict):
            raise ArqonBusError("The server is too old for streamed messages.")
        self.seq = answer.get("seq")
        self.address = f"{answer.get('room')}:{answer.get('channel')}"
        if told.get("state", OPEN) != OPEN:
            raise StreamEnded(f"The message {self.of} has ended.", [told])
        if self._shared and (answer.get("duplicate") or told.get("attempt", 1) > 1):
            await self._adopt_there()  # The stream of this run was opened before, under our id.
        else:
            self._heed(told)

    async def _adopt_there(self) -> None:
        """Adopt the stream of this run, if it is in the channel that the program asks for."""
        try:
            await self._adopt(self._place or self._bus.address)
        except errors.StreamNotFound as problem:
            what = f"The id {self.of!r}" if self._run is None else f"The run {self._run!r}"
            kind = "An id" if self._run is None else "A run"
            text = f"{what} names a message of another channel. {kind} is unique on the whole bus."
            raise errors.StreamNotFound(text, problem.details) from None

    async def _adopt(self, place: str = "") -> None:
        self._opening = None
        address = {"channel": place} if place else {}
        result = await self._bus._command("adopt_stream", {"of": self.of, "keep": self._keep, **address})
        self.mode = str(result.get("mode") or self.mode)
        self._owning.begin(result["have"], result["attempt"], result["token"])
        self._ready_on = self._bus.connections
        self._heed(result)

    def _connected(self, answer: dict[str, Any]) -> None:
        self._ready_on = self._bus.connections

    async def _abandon(self) -> None:
        if self._opening is None:
            return
        self._owning.finish(ABORTED)
        frame = self._owning.due() or {}
        with suppress(ArqonBusError, TimeoutError):  # It was not opened, or the server ends it in its own time.
            await self._bus._request(frame, repeat=True, timeout=None)

    # --- sending --------------------------------------------------------------------------------------------------------

    async def _send_parts(self) -> None:
        """Send what is due, until the stream is over."""
        while not self._gone:
            await self._wake.wait()
            self._wake.clear()
            while self._ready_on == self._bus.connections and (frame := self._owning.due()) is not None:
                if not await self._send(frame):
                    break  # The next connection sends it again.

    async def _send(self, frame: dict[str, Any]) -> bool:
        try:
            text = self._bus._encoded(frame)
        except errors.FrameTooLarge as problem:
            # An end without a part was refused alone. The parts before it are on the way.
            part = "delta" in frame or "part" in frame
            self._refused(problem, frame["n"] if part else frame["n"] + 1)
            return True
        except ArqonBusError as problem:
            self._fail(problem)
            return False
        await self._bus._pacer.turn()
        link = self._bus._link
        return link is not None and self._ready_on == self._bus.connections and await link.send(text)

    @property
    def _gone(self) -> bool:
        """Whether nothing can be sent any more."""
        lost = isinstance(self._failure, (StreamLost, StreamEnded)) or self._bus._failure is not None
        return lost or self._dead or self._owning.state != OPEN

    # --- returning on a new connection ----------------------------------------------------------------------------------

    def _back(self) -> None:
        """Ask what the server has, on a new connection."""
        if not self._returning and not self._gone:
            self._returning = True
            self._bus._spawn(self._return())

    async def _return(self) -> None:
        try:
            await self._ask()
        except errors.ServerError as problem:
            if problem.retry:
                await asyncio.sleep(self._backoff.pause(problem.retry_after))
            else:
                self._fail(problem, final=True)  # It would be refused again and again.
        except ArqonBusError as problem:
            self._fail(problem, final=True)
        finally:
            self._returning = False
            if self._ready_on != self._bus.connections and self._bus.connected:
                self._back()

    async def _ask(self) -> None:
        if self._opening is not None:
            try:
                await self._bus._request(self._opening, repeat=True, timeout=float("inf"), on_answer=self._returned)
                return
            except errors.ValidationFailed:
                self._opening = None  # The server does not remember the id any more. The parts are still known.
        if self._owning.have == 0:
            self._returned({})
            return
        # A repeated part counts as done, and its answer tells what the server has.
        content: dict[str, Any] = {"delta": " "} if self.mode == "text" else {"part": {}}
        probe: dict[str, Any] = {
            "type": "append",
            "of": self.of,
            "n": 1,
            **content,
            "id": f"{self._owning.key}/0",
            "ack": True,
        }
        if self._owning.token is not None:
            probe["token"] = self._owning.token
        await self._bus._request(probe, repeat=True, timeout=float("inf"), on_answer=self._returned)

    def _returned(self, answer: dict[str, Any]) -> None:
        """Handle what the server has after a new connection. No later frame was handled yet."""
        told = answer.get("stream") or {}
        state = str(told.get("state") or OPEN)
        if told.get("attempt", self.attempt) != self.attempt:
            self._fail(StreamLost(f"Another process owns the stream {self.of} now.", [told]))
            return
        if state != OPEN and not self._owning.ending:
            self._failure = StreamEnded(f"The server ended the stream {self.of}: {state}.", [told])
            self._ended(state)
            return
        try:
            self._echo(self._owning.returned(int(told.get("have", 0))))
        except PartsLost:
            self._fail(errors.StreamGap("The server has other parts than it had acknowledged.", [told]), final=True)
            return
        self._ready_on = self._bus.connections
        self._heed(told)
        self._progressed()
        self._move()
        self._wake.set()

    # --- told by the server ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _progressed(self) -> None:
        """Handle that the server has kept parts, so that there is room for more."""

    @abstractmethod
    def _finished(self, untaken: Any) -> None:
        """Handle the acknowledgement of the end. ``untaken`` is the server's list of steers, if it sent one."""

    @abstractmethod
    def _steered(self, frame: dict[str, Any]) -> None:
        """Handle a message that steers this stream."""

    def _notice(self, payload: dict[str, Any]) -> None:
        """Handle a notice to the owner."""
        frame = payload.get("message")
        if payload.get("event") == "stop_requested":
            self._heed({"stopping": True})
        elif isinstance(frame, dict):
            self._steered(frame)

    def _told(self, frame: dict[str, Any]) -> None:
        """Handle the acknowledgement of a part or of the end."""
        told = frame.get("stream") or {}
        self._backoff.reset()
        self._echo(self._owning.kept(told.get("have", 0)))
        if self._owning.ending and frame.get("request_id") == f"{self._owning.key}_end":
            self.end_seq = frame.get("seq")
            self._finished(told.get("untaken"))
            self._ended(str(told.get("state") or COMPLETE))
            echoing.end(self._bus, self._owning, self.end_seq, self.untaken)
            return
        self._heed(told)
        self._progressed()
        self._move()

    def _echo(self, frames: list[dict[str, Any]]) -> None:
        echoing.parts(self._bus, self.of, frames)

    def _refused(self, problem: errors.ServerError, number: int) -> None:
        """Handle the refusal of a part or of the end."""
        detail = next((row for row in problem.details if isinstance(row, dict)), {})
        if isinstance(problem, errors.StreamGap):
            try:
                self._echo(self._owning.gap(int(detail.get("have", 0))))
            except PartsLost:
                self._fail(problem, final=True)
            self._wake.set()
        elif isinstance(problem, (errors.Busy, errors.Unavailable, errors.OutcomeUnknown)):
            self._owning.wait()
            if self._pause is None:
                seconds = self._backoff.pause(problem.retry_after)
                self._pause = asyncio.get_running_loop().call_later(seconds, self._again)
        elif isinstance(problem, StreamEnded):
            self._failure = problem
            self._ended(str(detail.get("state") or ABORTED))
        elif not isinstance(problem, errors.Restarting):  # After that, the next connection sends it again.
            self._owning.drop(number)
            self._fail(problem)

    def _again(self) -> None:
        """Send everything that is not kept once more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._owning.again()
        self._wake.set()

    def _heed(self, told: dict[str, Any]) -> None:
        if told.get("stopping") and not self.stop_requested:
            self.stop_requested.set()
            self._over.set()
            self._move()

    def _ended(self, state: str) -> None:
        self._owning.state = state
        if state == STOPPED:
            self.stop_requested.set()
        self._close()

    def _fail(self, problem: Exception, *, final: bool = False) -> None:
        """Handle an error that this stream does not survive. After a ``final`` one it cannot even be ended."""
        self._dead = self._dead or final
        if self._failure is None and self._owning.state == OPEN:
            self._failure = problem
        if self._gone:
            self._close()
        self._over.set()
        self._move()

    def _close(self) -> None:
        self._bus._streams.remove(self)
        self._over.set()
        self._move()
        self._wake.set()

    # --- waiting --------------------------------------------------------------------------------------------------------

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _next_move(self) -> None:
        await self._moved.wait()

    def _check(self) -> None:
        """Raise the reason why nothing more can be written."""
        if self._failure is not None:
            raise self._failure
        self._bus._check()
        if not self._opened:
            raise RuntimeError("The stream is not open. Use `async with`.")
        if self._owning.state != OPEN:
            raise StreamEnded(f"The stream {self.of} has ended: {self._owning.state}.")
