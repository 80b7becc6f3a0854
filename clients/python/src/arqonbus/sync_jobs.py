"""Leased work in the blocking client. ``sync`` has the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from . import jobs, tracing
from . import work as works
from .blocking import Loop
from .errors import BusClosed
from .sync_messages import Answer, Message, blocking


class Job:
    """A job that this worker has claimed. ``with job:`` does it. See :class:`arqonbus.Job`.

    A lost job does not interrupt its block. Look at ``job.lost`` in a long one.
    """

    def __init__(self, loop: Loop, inner: jobs.Job) -> None:
        self._loop = loop
        self._inner = inner
        self._span: tracing.Span | None = None
        #: The message.
        self.message: Message | Answer = blocking(loop, inner.message)

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of the message."""
        return self._inner.payload

    @property
    def text(self) -> str:
        """The text of the message."""
        return self._inner.text

    @property
    def id(self) -> str:
        """The id of the message. It stays the same for all attempts."""
        return self._inner.id

    @property
    def seq(self) -> int:
        """The place of the message in its channel, which names the job there."""
        return self._inner.seq

    @property
    def claim(self) -> str:
        """The name of this claim. A secret of this worker."""
        return self._inner.claim

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1 on."""
        return self._inner.attempt

    @property
    def lease(self) -> float:
        """The seconds for which the claim is valid without a renewal."""
        return self._inner.lease

    @property
    def hold(self) -> float:
        """The seconds for which the claim is valid in all."""
        return self._inner.hold

    @property
    def state(self) -> str:
        """``running``, then ``done``, ``released``, ``dead`` (rejected) or ``lost``."""
        return self._inner.state

    @property
    def lost(self) -> bool:
        """Whether the job belongs to this worker no longer."""
        return self._inner.lost.is_set()

    @property
    def error(self) -> BaseException | None:
        """The exception that ended the block."""
        return self._inner.error

    def result(self, value: Any) -> None:
        """Set the result, any JSON, that the end of the block sends."""
        self._inner.result(value)

    def done(self, result: Any = None) -> dict[str, Any]:
        """Say that the job is done, with its result. See :meth:`arqonbus.Job.done`."""
        return self._loop.call(self._inner.done(result))

    def release(self, *, delay: float = 0.0, error: BaseException | str | None = None) -> None:
        """Give the job back. See :meth:`arqonbus.Job.release`."""
        self._loop.call(self._inner.release(delay=delay, error=error))

    def reject(self, error: BaseException | str | None = None) -> None:
        """Say that no attempt can succeed. See :meth:`arqonbus.Job.reject`."""
        self._loop.call(self._inner.reject(error))

    def renew(self) -> float:
        """Renew the claim and return its lease in seconds. See :meth:`arqonbus.Job.renew`."""
        return self._loop.call(self._inner.renew())

    def __enter__(self) -> Self:
        self._inner._check()
        self._span = tracing.consuming("process", self._inner.message)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return not self._loop.elsewhere and self._loop.call(self._inner._leave(error))
        finally:
            if self._span is not None:
                self._span.end(self._inner.error)


class Work(Iterator[Job]):
    """The jobs of a work channel, each for one worker. See :class:`arqonbus.Work`."""

    def __init__(self, loop: Loop, inner: works.Work) -> None:
        self._loop = loop
        self._inner = inner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __next__(self) -> Job:
        try:
            return self.get()
        except BusClosed:
            raise StopIteration from None

    @property
    def address(self) -> str:
        """The address ``room:channel``."""
        return self._inner.address

    @property
    def closed(self) -> bool:
        """Whether this iterator takes no more jobs."""
        return self._inner.closed

    @property
    def busy(self) -> int:
        """The number of jobs in hand."""
        return self._inner.busy

    def get(self, timeout: float | None = None) -> Job:
        """Return the next job. Raises ``TimeoutError`` after ``timeout`` seconds, ``BusClosed`` after the end."""
        return Job(self._loop, self._loop.call(self._inner.get(timeout)))

    def close(self) -> None:
        """Take no more jobs. Iterators end, jobs that no caller has are released, and running jobs go on."""
        if not self._loop.elsewhere:
            self._loop.call(self._inner.close())

    def run(self, handler: Callable[[Job], Any]) -> None:
        """Call ``handler(job)`` for each job, in ``concurrency`` threads, until :meth:`close`. What it returns is the result.

        Ctrl+C releases all running jobs. See :meth:`arqonbus.Work.run`.
        """
        self._loop.call(self._inner.run(lambda job: handler(Job(self._loop, job))))
