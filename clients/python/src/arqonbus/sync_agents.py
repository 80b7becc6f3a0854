"""Marks, leased work, questions and status in the blocking client. ``sync`` has the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from . import messages, work
from .errors import AskFailed
from .marks import Marked
from .sync_decisions import Deciding
from .sync_jobs import Work
from .sync_messages import Answer, Message, blocking

H = TypeVar("H", bound=Callable[[Message | Answer], Any])


class Agent(Deciding):
    """What workers and agents do on the bus."""

    # --- marks ----------------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> dict[str, messages.Position]:
        """The known marks of this client, by address."""
        return self._inner.marks

    def mark(self, address: str, seq: int, *, back: bool = False) -> Marked:
        """Move this client's mark of a log behind a message. See :meth:`arqonbus.Bus.mark`."""
        return self._loop.call(self._inner.mark(address, seq, back=back))

    # --- leased work ----------------------------------------------------------------------------------------------------

    def work(self, address: str, *, concurrency: int = 1, max_wait: float = work.WAIT) -> Work:
        """Work on the jobs of a channel: ``for job in bus.work("jobs:new"): with job: …``. See :meth:`arqonbus.Bus.work`."""

        async def make() -> work.Work:
            return self._inner.work(address, concurrency=concurrency, max_wait=max_wait)

        return Work(self._loop, self._loop.call(make()))

    def jobs(self, address: str) -> dict[str, Any]:
        """Return the queue of a work channel. See :meth:`arqonbus.Bus.jobs`."""
        return self._loop.call(self._inner.jobs(address))

    def retry_job(self, address: str, seq: int) -> dict[str, Any]:
        """Make a dead job ready again, with all of its attempts (right ``manage``)."""
        return self._loop.call(self._inner.retry_job(address, seq))

    def discard_job(self, address: str, seq: int) -> dict[str, Any]:
        """Discard a job, whatever its state is (right ``manage``). A worker that has it gets ``ClaimLost``."""
        return self._loop.call(self._inner.discard_job(address, seq))

    # --- ask and answer -------------------------------------------------------------------------------------------------

    def ask(
        self,
        to: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        durable: bool = False,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Message | Answer:
        """Ask a client, or a worker through a work channel, and return the reply. See :meth:`arqonbus.Bus.ask`."""
        question = self._inner.ask(
            to, message, payload=payload, timeout=timeout, durable=durable, metadata=metadata, id=id
        )
        try:
            return blocking(self._loop, self._loop.call(question))
        except AskFailed as problem:
            raise AskFailed(str(problem), blocking(self._loop, problem.reply)) from None

    def reply(
        self,
        question: messages.Message | str,
        payload: Mapping[str, Any] | None = None,
        *,
        message: str | None = None,
        error: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> messages.Receipt:
        """Reply to a question: its message, or the id of it. See :meth:`arqonbus.Bus.reply`."""
        return self._loop.call(
            self._inner.reply(question, payload, message=message, error=error, id=id, timeout=timeout)
        )

    @overload
    def answers(self, handler: H, *, concurrency: int = 16) -> H: ...

    @overload
    def answers(self, handler: None = None, *, concurrency: int = 16) -> Callable[[H], H]: ...

    def answers(self, handler: H | None = None, *, concurrency: int = 16) -> H | Callable[[H], H]:
        """Answer the questions to this client, in threads. See :meth:`arqonbus.Bus.answers`."""
        if handler is None:
            return lambda function: self.answers(function, concurrency=concurrency)

        async def begin() -> None:
            self._inner.answers(lambda question: handler(blocking(self._loop, question)), concurrency=concurrency)

        self._loop.call(begin())
        return handler

    # --- status and directory --------------------------------------------------------------------------------------------

    def set_status(
        self,
        status: str | None = None,
        *,
        task: str | None = None,
        text: str | None = None,
        tokens: int | None = None,
        ttl: float | None = None,
    ) -> dict[str, Any] | None:
        """Say what this client does now. See :meth:`arqonbus.Bus.set_status`."""
        return self._loop.call(self._inner.set_status(status, task=task, text=text, tokens=tokens, ttl=ttl))

    def clients(
        self,
        *,
        type: str | None = None,
        status: str | None = None,
        skill: str | None = None,
        channel: str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the connected clients that you may see. See :meth:`arqonbus.Bus.clients`."""
        return self._loop.each(self._inner.clients(type=type, status=status, skill=skill, channel=channel))
