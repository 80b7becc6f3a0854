"""A lasting connection: it dials, registers, reconnects and resumes until it is closed.

:class:`arqonbus.bus.Bus` decides what is sent and received. It overrides the methods at the end of :class:`Connection`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from . import errors
from .backoff import Backoff
from .errors import BusClosed, ClosedByServer, ConnectionLost, comes_back
from .link import Dial, Link, Refused
from .requests import Pacer, Pending, Requests, within
from .states import State
from .values import encode

logger = logging.getLogger("arqonbus.client")

#: If our id is "in use" right after our connection broke, the server has most likely not noticed the break yet. The answer with
#: the new resume token may also be lost. The client tries again for so many seconds.
OWN_GHOST = 30.0

#: The error for a child process that uses the connection of its parent.
FORKED = (
    "This bus connected before a fork, so its connection belongs to the parent process. "
    "Connect in each process after the fork."
)

#: The close code for a missing or expired identity.
UNIDENTIFIED = 4401


class Connection(ABC):
    """A connection that reconnects, and gives every request one answer. Use it in one event loop."""

    def __init__(
        self,
        dial: Dial,
        *,
        reconnect: bool,
        give_up_after: float | None,
        wait: float,
        timeout: float,
        backoff: Backoff | None,
        on_state: Callable[[State], None] | None,
    ) -> None:
        self._dial = dial
        self._reconnect = reconnect
        self._give_up_after = give_up_after
        self._wait = wait
        self._timeout = timeout
        self._backoff = backoff or Backoff()
        self._on_state = on_state
        self._state = State.CONNECTING
        self._link: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._up = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._first: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._requests = Requests()
        self._pacer = Pacer()
        #: The server's limits of one connection: ``frame_bytes``, ``depth``, ``targets``, ``frames_per_second`` (0: no limit).
        self.limits: dict[str, Any] = {}
        #: The number of connections so far.
        self.connections = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect and register. Raises ``ConnectionFailed``, ``ClosedByServer`` or ``ServerError``."""
        if self._runner is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError(
                    "arqonbus needs the event loop of asyncio, such as in `asyncio.run`. With trio, use trio-asyncio. Code "
                    "without an event loop uses arqonbus.sync."
                ) from None
            self._process = os.getpid()
            self._prepare()
            self._first = self._loop.create_future()
            self._runner = asyncio.create_task(self._run(), name="arqonbus")
            try:
                await asyncio.shield(self._first)
            except BaseException:
                await self.close()
                raise
        return self

    async def close(self) -> None:
        """Close the connection. Iterators end, and waiting requests raise ``BusClosed``."""
        if os.getpid() != self._process:
            return  # The connection belongs to the parent, which still uses it.
        runner = self._runner
        self._fail(BusClosed("The bus is closed."))
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        for task in [runner, *self._tasks]:
            if task is not None and task is not asyncio.current_task():
                task.cancel()
                await asyncio.wait([task])
        if self._first is not None and self._first.done() and not self._first.cancelled():
            self._first.exception()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        """The state of the connection."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether the connection is open and registered now."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Wait until the connection is open. Raises the error that ended the bus for good."""
        while not self._up.is_set():
            self._check()
            await self._up.wait()
        self._check()

    def _change(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            if self._on_state is not None:
                try:
                    self._on_state(state)
                except Exception:
                    # A failing listener must end neither the connection nor a wait for it.
                    logger.exception("the on_state listener failed for the state %s", state.value)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._check_owner()

    def _check_owner(self) -> None:
        """Raise ``RuntimeError`` in a child process or in another event loop."""
        if os.getpid() != self._process:
            raise RuntimeError(FORKED)
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "This bus belongs to another event loop, perhaps of an earlier `asyncio.run`. Use one `asyncio.run` for "
                "everything, or use arqonbus.sync, which works in any thread."
            )

    def _fail(self, error: Exception) -> None:
        """End for good. Everything that waits gets the error."""
        if self._failure is None:
            self._failure = error
        self._requests.fail_all(self._failure)
        self._ended(self._failure)
        self._change(State.CLOSED)
        self._up.set()  # The waiters then see the failure.

    # --- connecting and reconnecting ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        lost_at = loop.time()
        try:
            while True:
                try:
                    link = await self._connect_once(lost_at)
                except Refused as refusal:
                    patience = self._give_up_after if self.connections else self._wait
                    late = patience is not None and loop.time() - lost_at >= patience
                    if refusal.final or late:
                        self._end(refusal.error)
                        return
                    await asyncio.sleep(self._backoff.pause(refusal.retry_after))
                    continue
                await self._serve(link)
                lost_at = loop.time()
                if self._failure is not None:
                    return
                code, error = link.close_code, link.last_error
                # A function can replace an expired token. If the server refuses the new one too, the connection ends for good.
                again = comes_back(code) or (code == UNIDENTIFIED and callable(self._dial.token))
                if not self._reconnect or not again:
                    self._end(
                        ClosedByServer(code, error)
                        if not again
                        else ConnectionLost(f"The connection was lost ({code}).")
                    )
                    return
                logger.info("connection lost (%s), reconnecting", code)
                self._change(State.RECONNECTING)
                known = code in errors.CLOSE_CODES and error is not None
                await asyncio.sleep(self._backoff.pause(error.retry_after if known and error else None))
        except Exception as problem:
            logger.exception("the client failed")
            self._end(problem)

    def _end(self, error: Exception) -> None:
        self._fail(error)
        if self._first is not None and not self._first.done():
            self._first.set_exception(error)

    async def _connect_once(self, lost_at: float) -> Link:
        """Connect and register. Raises ``Refused``."""
        link = await Link.dial(self._dial)
        try:
            limits = link.welcome.get("limits")
            self.limits = limits if isinstance(limits, dict) else {}
            self._pacer.limit(self.limits.get("frames_per_second"), self.limits.get("frame_bytes"))
            frame = self._registration()
            answer = await link.register(self._dial, frame)
        except Refused as refusal:
            await link.close()
            error = refusal.error
            ghost = isinstance(error, ClosedByServer) and error.close_code == 4409 and self.connections > 0
            if ghost and asyncio.get_running_loop().time() - lost_at < OWN_GHOST:
                raise Refused(error, final=False) from None
            raise
        except BaseException:
            await link.close()
            raise
        self._registered(answer, frame)
        return link

    async def _serve(self, link: Link) -> None:
        """Serve one connection from its registration to its end."""
        self._link = link
        self.connections += 1
        self._backoff.reset()
        # The unanswered requests go first, in their order. New requests wait until they are sent.
        again = self._spawn(self._send_again(link))
        try:
            async for frame in link.frames():
                # Only answers and refusals have this key, whatever type a message has.
                if "request_id" in frame:
                    self._answered(frame)
                else:
                    self._receive(frame)
        finally:
            again.cancel()
            self._link = None
            self._up.clear()
            if self._failure is None:
                self._requests.break_unsafe(ConnectionLost("The connection was lost before the answer came."))
            else:
                self._up.set()
            await link.close()

    async def _send_again(self, link: Link) -> None:
        for pending in self._requests.repeatable():
            await self._pacer.turn()
            if not await link.send(pending.text):
                return
            pending.sent = True
        if self._link is not link:
            return
        self._up.set()
        self._change(State.CONNECTED)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._is_back()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _answered(self, frame: dict[str, Any]) -> None:
        request_id = frame.get("request_id")
        if request_id is not None:
            if not self._requests.answer(str(request_id), frame):
                self._unclaimed(str(request_id), frame)
            return
        error = frame.get("error")
        problem = errors.from_error(error if isinstance(error, dict) else {})
        if isinstance(problem, errors.RateLimited):
            # The error does not name the refused frame. Everything unanswered is sent again; the ids make that harmless.
            self._pacer.hold(problem.retry_after or 1.0)
            if self._link is not None and not self._requests.repeating:
                self._requests.repeating = True
                self._spawn(self._repeat_unanswered(self._link))
        else:
            logger.debug("the server answered %s", problem.code)

    async def _repeat_unanswered(self, link: Link) -> None:
        try:
            await self._pacer.turn()
            self._requests.repeating = False
            for pending in self._requests.repeatable(same=True):
                await self._pacer.turn()
                if not pending.future.done() and not await link.send(pending.text):
                    return
            self._repeat()
        finally:
            self._requests.repeating = False

    # --- requests ---------------------------------------------------------------------------------------------------

    async def _request(
        self,
        frame: dict[str, Any],
        *,
        repeat: bool,
        timeout: float | None,
        on_answer: Callable[[dict[str, Any]], None] | None = None,
        again: bool = False,
    ) -> dict[str, Any]:
        """Send a frame and wait for its answer. With ``repeat``, send it again after a broken connection.

        With ``again``, send it again on the same connection, if the server may have refused it for the rate of frames.
        """
        text = self._encoded(frame)
        delay = Backoff()
        seconds = self._timeout if timeout is None else timeout
        until = time.monotonic() + seconds
        hint = f" You can send it again with the id {frame['id']}." if frame["type"] != "command" else ""
        told = False
        async with within(seconds, f"There was no answer within {seconds:g} s. The outcome is unknown.{hint}"):
            while True:
                future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
                pending = Pending(frame["id"], text, repeat, future, on_answer, again=again)
                self._requests.add(pending)
                began = time.monotonic()
                try:
                    await self._send(pending)
                    began = time.monotonic()
                    return await pending.future
                except (errors.Busy, errors.Unavailable, errors.OutcomeUnknown) as problem:
                    pause, now = delay.pause(problem.retry_after), time.monotonic()
                    # An attempt that ends without an answer would hide what this one learned.
                    if not repeat or now + pause + (now - began) >= until:
                        raise
                    if not told and not isinstance(problem, errors.Busy):
                        logger.warning("the server answered %s; the request is sent again", problem)
                        told = True
                    await asyncio.sleep(pause)
                finally:
                    self._requests.remove(pending)

    async def _send(self, pending: Pending) -> None:
        while not pending.sent and not pending.future.done():
            await self.wait_connected()
            await self._pacer.turn()
            link = self._link
            if link is None or not self._up.is_set() or pending.sent:
                continue
            pending.sent = True
            if not await link.send(pending.text) and pending.repeat:
                return  # The next connection sends it.

    def _encoded(self, frame: dict[str, Any]) -> str:
        self._check()
        depth = self.limits.get("depth")
        text = encode(frame, depth) if isinstance(depth, int) else encode(frame)
        most = self._pacer.frame_bytes
        if most and len(text.encode()) > most:
            raise errors.FrameTooLarge(f"The frame has {len(text.encode())} bytes; the server's limit is {most}.")
        return text

    # --- overridden by the bus -----------------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare the first attempt to connect. :meth:`open` raises its errors."""

    @abstractmethod
    def _registration(self) -> dict[str, Any]:
        """Build the frame that registers: the identity and the positions to resume from."""

    @abstractmethod
    def _registered(self, answer: dict[str, Any], frame: dict[str, Any]) -> None:
        """Handle the answer to the registration. No later frame was handled yet."""

    @abstractmethod
    def _is_back(self) -> None:
        """Handle a new connection. The unanswered requests were sent again."""

    @abstractmethod
    def _unclaimed(self, request_id: str, frame: dict[str, Any]) -> None:
        """Handle an answer that no request waits for."""

    @abstractmethod
    def _repeat(self) -> None:
        """Send again what is unanswered and is no request, after the server refused frames that it does not name."""

    @abstractmethod
    def _receive(self, frame: dict[str, Any]) -> None:
        """Handle a frame that answers no request."""

    @abstractmethod
    def _ended(self, failure: Exception) -> None:
        """Handle the final end of the connection."""
