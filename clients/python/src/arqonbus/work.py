"""The iterator over the jobs of a work channel. It claims a job only for a caller that waits for one."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .backoff import Backoff
from .claims import Claims
from .daemon import in_daemon
from .errors import BusClosed, ConnectionLost, ServerError
from .jobs import RUNNING, Job
from .messages import WHOLE, split_address
from .requests import within

if TYPE_CHECKING:
    from .working import Working

logger = logging.getLogger("arqonbus.client")

#: The longest wait of one claim, in seconds. The server allows no longer one.
WAIT = 25.0
#: How long a job that came too late for its caller waits for the next caller, in seconds.
KEPT = 1.0
#: After how many seconds without a free place the iterator tells that no job in hand was begun.
PATIENCE = 10.0


class Work(AsyncIterator[Job]):
    """The jobs of a work channel, each for one worker. :meth:`Bus.work` returns it.

    At most ``concurrency`` jobs are in hand at once. A loop over them does one after the other; :meth:`run` does several at
    once. Several tasks may iterate over the same ``Work``.
    """

    def __init__(self, bus: Working, claims: Claims, *, concurrency: int, max_wait: float) -> None:
        if type(concurrency) is not int or concurrency < 1:
            raise ValueError("`concurrency` must be a whole number, 1 or more.")
        if isinstance(max_wait, bool) or not 0 < max_wait < inf:
            raise ValueError("`max_wait` must be a number of seconds, more than 0.")
        self._bus = bus
        self._claims = claims
        #: The address ``room:channel``.
        self.address = claims.address
        self.concurrency = concurrency
        self._wait = min(float(max_wait), WAIT)
        #: The claimed jobs that no caller has yet, and the number of those that callers have.
        self._ready: deque[Job] = deque()
        self._busy = 0
        self._callers = 0
        self._asking: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._closed = False
        self._error: BaseException | None = None
        self._warned = False

    # --- life ------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Take no more jobs. Iterators end, jobs that no caller has are released, and running jobs go on."""
        self._finish()
        ready, self._ready = self._ready, deque()
        await asyncio.gather(*(self._give_back(job) for job in ready))

    @property
    def closed(self) -> bool:
        """Whether this iterator takes no more jobs."""
        return self._closed

    @property
    def busy(self) -> int:
        """The number of jobs in hand."""
        return self._busy

    def _finish(self) -> None:
        self._closed = True
        self._move()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._move()

    # --- taking jobs ---------------------------------------------------------------------------------------------------

    async def __anext__(self) -> Job:
        self._bus._check_owner()
        self._callers += 1
        try:
            while not self._ready:
                if self._closed:
                    raise StopAsyncIteration
                if self._error is not None:
                    raise self._error
                self._ask()
                await self._next_move()
            job = self._ready.popleft()
            self._busy += 1
            job._freed = self._free
            return job
        finally:
            self._callers -= 1
            self._spare()

    async def get(self, timeout: float | None = None) -> Job:
        """Return the next job. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        try:
            async with within(timeout, f"No job of {self.address} came within {timeout or 0:g} s."):
                return await self.__anext__()
        except StopAsyncIteration:
            raise BusClosed("The iterator over the jobs is closed.") from None

    def _free(self) -> None:
        self._busy -= 1
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _next_move(self) -> None:
        moved = self._moved
        if self._room > 0 or self._warned:
            await moved.wait()
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await moved.wait()
        except TimeoutError:
            self._warned = True
            if not any(job.begun for job in self._claims.hand()):
                logger.warning(
                    "%s jobs of %s are in hand and none was begun, so no other one is claimed. Write `async with job:`, "
                    "or call job.done().",
                    self._busy,
                    self.address,
                )

    @property
    def _room(self) -> int:
        """The number of jobs that may be claimed now."""
        return self.concurrency - self._busy - len(self._ready)

    def _ask(self) -> None:
        """Claim jobs for the callers that wait, if nothing is on its way."""
        if self._room > 0 and (self._asking is None or self._asking.done()):
            self._asking = self._bus._spawn(self._claim())

    async def _claim(self) -> None:
        pause = Backoff()
        loop = asyncio.get_running_loop()
        while not self._closed and self._error is None:
            wanted = min(self._callers - len(self._ready), self._room)
            if wanted < 1:
                return
            began = loop.time()
            try:
                await self._bus.wait_connected()
                jobs = await self._claims.claim(wanted, self._wait)
            except TimeoutError:
                continue
            except ConnectionLost as problem:
                if self._bus._failure is None:
                    continue  # The next connection asks again.
                self._fail(problem)
                return
            except BusClosed:
                self._finish()
                return
            except Exception as problem:  # noqa: BLE001 - raised where the jobs are awaited
                if not (isinstance(problem, ServerError) and problem.retry):
                    self._fail(problem)
                    return
                self._claims.refused(problem)
                await asyncio.sleep(pause.pause(problem.retry_after))
                continue
            none = not jobs
            self._came(jobs)
            del jobs  # This frame must not keep a job while it waits for the next one.
            if not none:
                pause.reset()
            elif loop.time() - began < min(self._wait, 1.0) / 2:
                await asyncio.sleep(pause.pause())  # A server that stops answers at once.

    def _came(self, jobs: list[Job]) -> None:
        if self._closed:
            for job in jobs:
                self._bus._spawn(self._give_back(job))
            return
        self._ready += jobs
        self._move()
        self._spare()

    def _spare(self) -> None:
        """Keep the jobs whose callers have gone for a moment, since the next caller may follow at once."""
        if len(self._ready) > self._callers:
            loop = asyncio.get_running_loop()
            for job in self._ready:
                loop.call_later(KEPT, self._too_late, job)

    def _too_late(self, job: Job) -> None:
        """Release a job that nobody has taken, although somebody asked for it."""
        if job in self._ready:
            self._ready.remove(job)
            self._bus._spawn(self._give_back(job))

    async def _give_back(self, job: Job) -> None:
        if job.state == RUNNING:
            job._forget()
            if self._bus.connected:
                await self._claims.release(job.claim)

    # --- running a function ----------------------------------------------------------------------------------------------

    async def run(self, handler: Callable[[Job], Any]) -> None:
        """Call ``handler(job)`` for each job, ``concurrency`` at once, until :meth:`close`. What it returns is the result.

        An ``async`` function runs in the loop and a plain one in a thread. An exception releases its job, and the others go on.
        A cancellation of this call releases all running jobs. Raises what ends the iterator: ``Forbidden``, ``ChannelNotFound`` …
        """
        await together(self._loop_over(handler) for _ in range(self.concurrency))

    async def _loop_over(self, handler: Callable[[Job], Any]) -> None:
        async for job in self:
            async with job:
                result = await called(handler, job)
                if result is not None:
                    job.result(result)
            del job  # Otherwise this frame would keep it while it waits for the next one.


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run these at once until all have ended. The first exception ends the others, and so does a cancellation. Raises it.

    A task group would raise a group of exceptions.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def called(handler: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function of the program: an ``async`` one in the loop, a plain one in a thread. Returns what it returns."""
    if inspect.iscoroutinefunction(handler):
        return await handler(argument)

    def call() -> Any:
        try:
            return handler(argument)
        except Exception:
            raise
        except BaseException as problem:  # `sys.exit()` ends a thread silently.
            raise RuntimeError(f"The function ended with {problem!r}.") from problem

    result = await in_daemon(call, "arqonbus-handler")
    return await result if isinstance(result, Awaitable) else result


def work_address(address: str) -> str:
    """Return the address of a channel. Raises ``ValueError`` for a whole room."""
    room, channel = split_address(address)
    if channel == WHOLE:
        raise ValueError(f"{address!r} names no channel. Jobs are in one channel, for example {room}:new.")
    return f"{room}:{channel}"
