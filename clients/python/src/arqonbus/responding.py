"""Answer the questions to a client: each once, also those that came while it was away."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import tracing
from .deadlines import Deadlines
from .errors import ArqonBusError, BusClosed, QuestionEnded, QuestionNotFound, ServerError
from .jobs import said
from .marks import Follower
from .messages import INBOX_ROOM, MARK, Message, Position
from .questions import is_question
from .subscription import Subscription
from .work import called

if TYPE_CHECKING:
    from .bus import Bus

logger = logging.getLogger("arqonbus.client")


class InWork(Follower):
    """Follows the inbox of a responder that has several questions in work: the mark stays before the oldest one."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._reached: Position | None = None
        self._seqs: list[int] = []

    def begin(self, seq: int) -> None:
        """A question is in work."""
        self._seqs.append(seq)

    def end(self, seq: int) -> None:
        """A question is answered."""
        self._seqs.remove(seq)
        self._move()

    def done(self, place: Position) -> None:
        """All up to ``place`` was taken from the inbox."""
        self._reached = place
        self._move()

    def _move(self) -> None:
        place = self._reached
        if place is not None:
            super().done(Position(min(place.seq, min(self._seqs) - 1), place.epoch) if self._seqs else place)


class Responder:
    """Takes the questions out of the inbox, and replies with what a function returns."""

    def __init__(self, bus: Bus, handler: Callable[[Message], Any], concurrency: int) -> None:
        self._bus = bus
        self._handler = handler
        self._places = asyncio.Semaphore(concurrency)
        self._follower: InWork | None = None
        self._deadlines = Deadlines()

    async def run(self) -> None:
        """Answer until the bus ends."""
        try:
            await self._deadlines.learn(self._bus)
            questions = await self._open()
            async for question in questions:
                if question.after_gap:
                    logger.warning(
                        "questions to %s may be lost: the inbox does not reach back far enough", self._bus.client_id
                    )
                await self._places.acquire()
                if self._follower is not None:
                    self._follower.begin(question.seq or 0)
                self._bus._spawn(self._answer(question))
        except BusClosed:
            return
        except Exception:
            logger.exception("%s answers no more questions", self._bus.client_id)

    async def _open(self) -> Subscription:
        bus = self._bus
        address = f"{INBOX_ROOM}:{bus.client_id}"

        def inbox(since: Position | str) -> Subscription:
            return Subscription(bus, address, since=since, echo=True, broadcasts=False, grow=False, wants=is_question)

        questions = inbox(MARK)
        questions._follower = self._follower = bus._marks.follow(InWork, address, weakref.WeakMethod(questions._fail))
        try:
            return await questions.open()
        except ServerError as problem:
            logger.warning(
                "%s has no mark, so it answers no questions from before its start: %s", bus.client_id, problem
            )
        self._follower.close()
        self._follower = None
        return await inbox(bus._marks.began.get(address) or Position(0)).open()

    async def _answer(self, question: Message) -> None:
        try:
            if not self._deadlines.over(question):
                await self._reply(question, *await self._result(question))
            if self._follower is not None:
                self._follower.end(question.seq or 0)
        finally:
            self._places.release()

    async def _result(self, question: Message) -> tuple[dict[str, Any], str | None]:
        """Return the payload of the reply, and its error."""
        span = tracing.consuming("process", question)
        problem: BaseException | None = None
        try:
            result = await called(self._handler, question)
        except (Exception, asyncio.CancelledError) as failure:
            task = asyncio.current_task()
            if isinstance(failure, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # The bus ends. Otherwise something that the function awaited was cancelled.
            problem = failure
            logger.exception("answering %s of %s failed", question.id, question.sender)
            return {}, said(failure)
        finally:
            if span is not None:
                span.end(problem)
        if result is None:
            return {}, None
        return dict(result) if isinstance(result, Mapping) else {"result": result}, None

    async def _reply(self, question: Message, payload: dict[str, Any], error: str | None) -> None:
        try:
            await self._send(question, payload, error)
        except (QuestionEnded, QuestionNotFound) as problem:
            logger.debug("the reply to %s came too late: %s", question.id, problem)
        except (TypeError, ValueError, ServerError) as problem:
            logger.error("the reply to %s cannot be sent: %s", question.id, problem)
            if error is None:
                await self._reply(question, {}, said(problem))
        except (ArqonBusError, TimeoutError) as problem:
            logger.warning("the reply to %s was not confirmed: %s", question.id, problem)

    async def _send(self, question: Message, payload: dict[str, Any], error: str | None) -> None:
        """Send the reply, however long the server is away: a repeat is no second one.

        Raises ``TimeoutError`` once the time of the question is over, and what :meth:`Bus.reply` raises.
        """
        while True:
            try:
                await self._bus.reply(question, payload, error=error)
            except TimeoutError:
                if self._deadlines.over(question):
                    raise
            else:
                return
