"""A connection that lasts: dialled, registered, broken, resumed, for as long as somebody wants it (contract §3, §8).

What travels on it is the business of :class:`arqonbus.bus.Bus`, which fills in the methods at the end of :class:`Connection`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from . import errors
from .backoff import Backoff
from .errors import BusClosed, ClosedByServer, ConnectionLost, comes_back
from .link import Dial, Link, Refused
from .messages import new_id
from .requests import Pacer, Pending, Requests, within
from .states import State
from .values import encode

logger = logging.getLogger("arqonbus.client")

#: An id that is "in use" right after our own connection broke is most likely our own, not yet missed by the server (its
#: answer with the new resume token can be what got lost); for so long it is tried again, in seconds.
OWN_GHOST = 30.0

#: What a child is told that uses its parent's connection.
FORKED = (
    "This bus was connected before a fork, and its connection belongs to the parent process. "
    "Connect in each process, after the fork."
)

#: The close code of those who are not identified, or no longer.
UNIDENTIFIED = 4401


class Connection(ABC):
    """Stays connected, and gets every request its one answer. Use it in one event loop."""

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
        #: What the server takes of one connection: ``frame_bytes``, ``depth``, ``targets``, ``frames_per_second`` (0: no limit).
        self.limits: dict[str, Any] = {}
        #: How many connections there were.
        self.connections = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def open(self) -> Self:
        """Connect and register. Raises ``ConnectionFailed``, ``ClosedByServer`` or ``ServerError`` when that cannot be."""
        if self._runner is None:
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise RuntimeError(
                    "arqonbus needs asyncio's event loop, as of `asyncio.run`. Under trio use trio-asyncio; for code without an "
                    "event loop there is arqonbus.sync."
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
        """Close the connection with the handshake; iterators end, what waits for an answer gets ``BusClosed``."""
        if os.getpid() != self._process:
            return  # The connection is the parent's, who goes on with it.
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
        """What it is doing."""
        return self._state

    @property
    def connected(self) -> bool:
        """Whether it is connected and registered at this moment."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Wait until it is connected. Raises what ended the bus for good."""
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
                    # Its fault ends neither the connection nor anybody's wait for it.
                    logger.exception("the listener for the state failed at %s", state.value)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._check_owner()

    def _check_owner(self) -> None:
        """Raise ``RuntimeError`` where the connection cannot be used: in a child process, or in another event loop."""
        if os.getpid() != self._process:
            raise RuntimeError(FORKED)
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise RuntimeError(
                "This bus belongs to another event loop, perhaps of an `asyncio.run` that has ended. Use one `asyncio.run` for "
                "everything, or arqonbus.sync, which may be used from anywhere."
            )

    def _fail(self, error: Exception) -> None:
        """The end: everything that waits is told."""
        if self._failure is None:
            self._failure = error
        self._requests.fail_all(self._failure)
        self._ended(self._failure)
        self._change(State.CLOSED)
        self._up.set()  # Whoever waits for it looks at the failure.

    # --- connecting and coming back ---------------------------------------------------------------------------------

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
                # A token that has expired can be had anew from a function; if the server does not take that one, it is over.
                again = comes_back(code) or (code == UNIDENTIFIED and callable(self._dial.token))
                if not self._reconnect or not again:
                    self._end(
                        ClosedByServer(code, error)
                        if not again
                        else ConnectionLost(f"The connection was lost ({code}).")
                    )
                    return
                logger.info("connection lost (%s), coming back", code)
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
        """From the registration to the end of one connection."""
        self._link = link
        self.connections += 1
        self._backoff.reset()
        # First what was not answered, in its order; new requests wait until that is on its way.
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
            self._requests.answer(str(request_id), frame)
            return
        error = frame.get("error")
        problem = errors.from_error(error if isinstance(error, dict) else {})
        if isinstance(problem, errors.RateLimited):
            # It does not say which frame was refused: everything unanswered is sent again, which the ids make harmless.
            self._pacer.hold(problem.retry_after or 1.0)
            if self._link is not None and not self._requests.repeating:
                self._requests.repeating = True
                self._spawn(self._repeat_unanswered(self._link))
        else:
            logger.debug("the server said %s", problem.code)

    async def _repeat_unanswered(self, link: Link) -> None:
        try:
            await self._pacer.turn()
            self._requests.repeating = False
            for pending in self._requests.repeatable():
                await self._pacer.turn()
                if not pending.future.done() and not await link.send(pending.text):
                    return
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
    ) -> dict[str, Any]:
        """Send a frame and wait for its answer, across breaks of the connection when ``repeat``."""
        text = self._encoded(frame)
        delay = Backoff()
        seconds = self._timeout if timeout is None else timeout
        again = f"; with the id {frame['id']} it can be sent again" if frame["type"] != "command" else ""
        async with within(
            seconds, f"No answer came within {seconds:g} s. Whether it was carried out is unknown{again}."
        ):
            while True:
                pending = Pending(frame["id"], text, repeat, asyncio.get_running_loop().create_future(), on_answer)
                self._requests.add(pending)
                try:
                    await self._send(pending)
                    return await pending.future
                except (errors.Busy, errors.Unavailable, errors.OutcomeUnknown) as problem:
                    if not repeat:
                        raise
                    await asyncio.sleep(delay.pause(problem.retry_after))
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
            raise errors.FrameTooLarge(f"The frame has {len(text.encode())} bytes; the server takes {most}.")
        return text

    async def _command(
        self, name: str, parameters: dict[str, Any] | None = None, *, repeat: bool = True, timeout: float | None = None
    ) -> dict[str, Any]:
        frame = {"type": "command", "id": new_id(), "command": name, "parameters": parameters or {}}
        answer = await self._request(frame, repeat=repeat, timeout=timeout)
        result: dict[str, Any] = answer["result"]
        return result

    # --- filled in by the bus -----------------------------------------------------------------------------------------

    @abstractmethod
    def _prepare(self) -> None:
        """Before the first attempt to connect; what it raises ends :meth:`open`."""

    @abstractmethod
    def _registration(self) -> dict[str, Any]:
        """The frame that registers: identity, and the positions to go on from."""

    @abstractmethod
    def _registered(self, answer: dict[str, Any], frame: dict[str, Any]) -> None:
        """The answer to that frame; nothing that follows has been looked at yet."""

    @abstractmethod
    def _is_back(self) -> None:
        """Connected, and what was unanswered is on its way again."""

    @abstractmethod
    def _receive(self, frame: dict[str, Any]) -> None:
        """A frame that answers no request."""

    @abstractmethod
    def _ended(self, failure: Exception) -> None:
        """The connection has ended for good."""
