"""One job of a work channel, from its claim to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from . import tracing
from .errors import ArqonBusError, BusClosed, ClaimLost, ClaimNotFound, FrameTooLarge, ValidationFailed
from .messages import Message
from .owner import Flag
from .values import encode

if TYPE_CHECKING:
    from .claims import Claims

logger = logging.getLogger("arqonbus.client")

#: The longest back-off after a failure, in seconds.
LONGEST = 900.0
#: The most characters of an error that the server takes.
ERROR = 2000
#: How long the release of a cancelled job waits for its answer, in seconds.
RELEASING = 5.0
#: The error of a job whose worker is stopped.
STOPPED = "The worker was stopped."
#: The error of a job that the program has dropped.
DROPPED = "The worker took the job and dropped it. `async with job` ends a job."

RUNNING, DONE, RELEASED, DEAD, LOST = "running", "done", "released", "dead", "lost"
#: Why a claim may be lost without a loss for its job: an expired one may still be done, and a released one is out again.
HARMLESS = {"renew": ("expired", "done"), "release": ("expired", "done", "cancelled")}


def back_off(attempt: int) -> float:
    """Return how long a failed job waits for its next attempt, in seconds."""
    return min(2.0 ** min(attempt, 30), LONGEST)


def said(error: BaseException | str | None) -> str | None:
    """Return an error as the text that the server keeps: short, and without half characters."""
    if error is None:
        return None
    text = error if isinstance(error, str) else repr(error)
    return text.encode("utf-8", "replace").decode()[:ERROR]


class Job:
    """A job that this worker has claimed: ``async with job:`` does it. :meth:`Bus.work` yields it.

    The end of the block says that the job is done. An exception in the block is logged, and releases the job: another attempt
    follows after a pause. A cancellation releases it at once, and goes on. If the job is lost (another worker has it, or
    somebody discarded it), the block is cancelled as by ``asyncio.timeout``. So one job never ends the loop over all jobs.
    """

    def __init__(self, claims: Claims, row: dict[str, Any]) -> None:
        frame = row["message"]
        #: The message.
        self.message = Message.of(frame, bus=claims.bus)
        #: The name of this claim. A secret of this worker.
        self.claim = str(row["claim"])
        #: The number of this attempt, from 1 on.
        self.attempt = int(row["attempt"])
        #: The seconds for which the claim is valid without a renewal, and in all.
        self.lease = float(row["lease"])
        self.hold = float(row["hold"])
        #: ``running``, then ``done``, ``released``, ``dead`` (rejected) or ``lost``.
        self.state = RUNNING
        #: Whether the job belongs to this worker no longer. An event, and a truth value.
        self.lost = Flag()
        #: The exception that ended the block.
        self.error: BaseException | None = None
        #: Whether a block or a call has begun with this job.
        self.begun = False
        self._claims = claims
        self._loop = asyncio.get_running_loop()
        #: Called once when the job has ended here: its place is free for another one.
        self._freed: Callable[[], None] = _nothing
        self._result: Any = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelled = False
        self._span: tracing.Span | None = None

    def __repr__(self) -> str:
        return f"<Job {self.message.address} #{self.seq}, attempt {self.attempt}, {self.state}>"

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of the message."""
        return self.message.payload

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.message.text

    @property
    def id(self) -> str:
        """The id of the message. It stays the same for all attempts."""
        return self.message.id

    @property
    def seq(self) -> int:
        """The place of the message in its channel, which names the job there."""
        return self.message.seq or 0

    # --- what the worker says ------------------------------------------------------------------------------------------

    def result(self, value: Any) -> None:
        """Set the result, any JSON, that the end of the block sends. If the job was asked, it is the answer.

        Raises ``TypeError`` and ``Unsendable`` for a value that is not JSON.
        """
        encode({"result": value})
        self._result = value

    async def done(self, result: Any = None) -> dict[str, Any]:
        """Say that the job is done, with its result. The end of the block calls this by itself.

        Raises ``ClaimLost`` if another worker has the job, or had it. Its result counts then. Raises ``FrameTooLarge`` …
        """
        self._check()
        answer = await self._say("done", {"result": self._result if result is None else result})
        self._end(DONE)
        return answer

    async def release(self, *, delay: float = 0.0, error: BaseException | str | None = None) -> None:
        """Give the job back. It is out again after ``delay`` seconds, or dead after the last attempt. Raises ``ClaimLost``."""
        self._check()
        parameters: dict[str, Any] = {"delay": delay}
        if error is not None:
            parameters["error"] = said(error)
        try:
            answer = await self._say("release", parameters)
        except ClaimLost as lost:
            if lost.why == "taken":
                raise
            answer = {}  # It is out again already, which is what was wanted.
        self._end(DEAD if answer.get("state") == "dead" else RELEASED)

    async def reject(self, error: BaseException | str | None = None) -> None:
        """Say that no attempt can succeed. The job is dead at once. Raises ``ClaimLost``."""
        self._check()
        await self._say("reject", {} if error is None else {"error": said(error)})
        self._end(DEAD)

    async def renew(self) -> float:
        """Renew the claim and return its lease in seconds. The server does it by itself while this client is connected.

        Raises ``ClaimLost``, also if the job is out again and nobody has it yet.
        """
        self._check()
        answer = await self._say("renew", {})
        return float(answer["lease"])

    def _check(self) -> None:
        if self.state != RUNNING:
            raise ClaimLost(f"The job {self.message.address} #{self.seq} has ended here: {self.state}.")
        self.begun = True

    async def _say(self, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._claims.bus._command(command, {"claim": self.claim, **parameters})
        except (ClaimLost, ClaimNotFound) as problem:
            if not (isinstance(problem, ClaimLost) and problem.why in HARMLESS.get(command, ())):
                self._lose(problem, cancel=False)
            raise

    # --- the block -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._check()
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self._span = tracing.consuming("process", self.message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        ours = self._cancelled and task is not None and task.uncancel() <= self._cancelling
        try:
            return await self._leave(error, ours=ours)
        finally:
            if self._span is not None:
                self._span.end(self.error)

    async def _leave(self, error: BaseException | None, *, ours: bool = False) -> bool:
        """Handle the end of the block. Returns whether its error is dealt with. ``ours``: we cancelled the block."""
        self.error = error
        if self.state != RUNNING:
            return self._ended_before(error, ours=ours)
        if error is None:
            await self._finish()
        elif isinstance(error, Exception) or self._cancelled_elsewhere(error):
            await self._failed(error)
            return True
        elif not isinstance(
            error, GeneratorExit
        ):  # There nothing can be awaited. The job is released when it is dropped.
            await self._stopped(STOPPED if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)) else error)
        return False

    def _cancelled_elsewhere(self, error: BaseException) -> bool:
        """Return whether something that the block awaited was cancelled, and not the block."""
        task = asyncio.current_task()
        return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() <= self._cancelling

    def _ended_before(self, error: BaseException | None, *, ours: bool) -> bool:
        """Handle the end of a block whose job has ended inside of it. Returns whether its error is dealt with."""
        if ours and isinstance(error, asyncio.CancelledError) and self.state != LOST:
            return True
        if self.state == LOST:
            logger.warning("the job %s #%s is lost: %s", self.message.address, self.seq, self._lost_to)
            return ours if isinstance(error, asyncio.CancelledError) else isinstance(error, Exception)
        if isinstance(error, Exception):
            logger.error(
                "the job %s #%s is %s, and then failed", self.message.address, self.seq, self.state, exc_info=error
            )
            return True
        return False

    async def _finish(self) -> None:
        """Say that the job is done, however long the server is away."""
        while True:
            try:
                await self.done()
            except (ClaimLost, ClaimNotFound) as lost:
                logger.warning(
                    "the job %s #%s is lost, and its result does not count: %s", self.message.address, self.seq, lost
                )
            except (ValidationFailed, FrameTooLarge) as problem:
                # Another attempt would end in the same way.
                self.error = problem
                await self._failed(problem, final=True)
            except TimeoutError:
                continue
            return

    async def _failed(self, error: BaseException, *, final: bool = False) -> None:
        """Release the job after an exception, with a pause that grows. ``final``: its result is refused, so reject it."""
        pause = back_off(self.attempt)
        try:
            while True:
                with suppress(TimeoutError):
                    if final:
                        await self.reject(f"The result was refused. {error}")
                    else:
                        await self.release(delay=pause, error=error)
                    break
        except (ClaimLost, ClaimNotFound) as lost:
            logger.warning(
                "the job %s #%s failed, and is lost: %s", self.message.address, self.seq, lost, exc_info=error
            )
            return
        except BusClosed:
            raise error from None
        logger.error(
            "the job %s #%s failed at attempt %s; %s", self.message.address, self.seq, self.attempt,
            "it is dead now" if self.state == DEAD else f"the next attempt follows in {pause:g} s", exc_info=error,
        )  # fmt: skip

    async def _stopped(self, error: BaseException | str) -> None:
        """Release the job at once: its worker stops. Without a connection the server does it."""
        if self._claims.bus.connected:
            with suppress(ArqonBusError, TimeoutError):
                async with asyncio.timeout(RELEASING):
                    await self.release(error=error)

    # --- what the client learns --------------------------------------------------------------------------------------------

    _lost_to = "the claim has ended"

    def _lose(self, problem: ArqonBusError | None = None, *, cancel: bool = True) -> None:
        """Handle that the job belongs to this worker no longer."""
        if self.state != RUNNING:
            return
        if problem is not None:
            self._lost_to = str(problem)
        self._end(LOST)
        self.lost.set()
        if cancel:
            self._cancel()

    async def _part(self, closing: asyncio.Task[Any] | None) -> None:
        """Release the job, since the bus closes, and cancel the block, unless the block itself closes the bus."""
        if self.state == RUNNING:
            await self._stopped(STOPPED)
            if self.state == RUNNING:
                self._forget()
            self.lost.set()
            if self._task is not closing:
                self._cancel()

    def _cancel(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def _renamed(self, row: dict[str, Any]) -> None:
        """Handle that the server gave this job to this client again. It goes on under the name of the new claim."""
        self.claim, self.attempt = str(row["claim"]), int(row["attempt"])

    def _end(self, state: str) -> None:
        running, self.state = self.state == RUNNING, state
        if running:
            self._claims.ended(self)
            self._freed()

    def _forget(self) -> None:
        """The client gives the job back before anybody has it."""
        self.state = RELEASED
        self._claims.ended(self)

    def __del__(self) -> None:
        # A program that lets a job go without an end would keep it from all workers.
        if getattr(self, "state", None) == RUNNING and not self._loop.is_closed():
            with suppress(RuntimeError):  # The loop may close in the meantime.
                self._loop.call_soon_threadsafe(self._claims.dropped, self.claim, self._freed)


def _nothing() -> None: ...
