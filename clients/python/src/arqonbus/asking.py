"""Ask and answer: the methods of a bus for questions, as their asker and as their responder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from . import tracing
from .errors import AskFailed, AskTimeout, Forbidden, NotFound
from .messages import INBOX_ROOM, WHOLE, Message, Receipt, split_address
from .publishing import Publishing
from .questions import Questions, is_question
from .requests import within
from .responding import Responder

if TYPE_CHECKING:
    from .bus import Bus

H = TypeVar("H", bound=Callable[[Message], Any])

#: The time for an answer, in seconds.
ASK_TIMEOUT = 30.0
#: How much longer than the server an asker waits for the end of its question, in seconds.
SLACK = 5.0
#: The pages of the inbox that are searched for the reply to a question of an earlier process.
PAGES, PAGE = 10, 500


class Asking(Publishing):
    """Questions, as their asker and as their responder."""

    #: The id that the server gave or confirmed.
    client_id: str
    _questions: Questions
    _responder: Responder | None

    async def ask(
        self,
        to: str,
        message: str | Mapping[str, Any] | None = None,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        durable: bool = False,
        metadata: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> Message:
        """Ask a client, or a worker through a work channel (``room:channel``), and return the reply.

        ``message`` is a text, or a mapping that becomes the payload. ``timeout`` is the time for the answer, 30 seconds without
        it. A ``durable`` question also waits for a client that is away, and both sides may restart in between: ask again with
        the same ``id``, and the reply to the first question comes.

        Raises ``NoResponder`` at once if nobody is there, and ``AskTimeout`` (a ``TimeoutError``) without an answer in time.
        Raises ``AskFailed`` if the answer is an error.
        """
        timeout = ASK_TIMEOUT if timeout is None else timeout
        frame = self._content("private", message, payload, metadata, id)
        frame["ask"] = {"timeout": timeout, "durable": durable}
        frame["ack"] = True
        room, channel = split_address(to) if ":" in to else (INBOX_ROOM, to)
        if room == INBOX_ROOM:
            frame["to"] = [channel]
        elif channel == WHOLE:
            raise ValueError(f"{to!r} is a whole room. Ask one client, or a work channel such as {room}:new.")
        else:
            frame["type"], frame["room"], frame["channel"] = "event", room, channel
        with self._questions.asked(frame["id"]) as reply:
            async with self._unacked:
                with tracing.publishing(frame, to):
                    answer = await self._request(frame, repeat=True, timeout=timeout + SLACK)
            uid = str(answer.get("message_id") or frame["id"])
            if answer.get("duplicate"):
                await self._find_reply(frame["id"])
            text = f"{to} did not answer within {timeout:g} s."
            try:
                async with within(timeout + SLACK, text):
                    found = await reply
            except AskTimeout:
                raise
            except TimeoutError:
                details = [{"to": to, "correlation": frame["id"], "message": uid}]
                raise AskTimeout(text, details) from None
        told = Message.of(found, bus=self)
        if told.error is not None:
            raise AskFailed(told.error, told)
        return told

    async def _find_reply(self, correlation: str) -> None:
        """Look for a reply that came before this process: it may be in the inbox already."""
        before: int | None = None
        for _ in range(PAGES):
            try:
                result = await self._history(
                    f"{INBOX_ROOM}:{self.client_id}", PAGE, before, None, "reply", None, fold=False
                )
            except (Forbidden, NotFound):
                return
            for frame in result["messages"]:
                self._questions.replied(frame)
            before = result.get("next")
            if before is None or not self._questions.waits(correlation):
                return

    async def reply(
        self,
        question: Message | str,
        payload: Mapping[str, Any] | None = None,
        *,
        message: str | None = None,
        error: str | None = None,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Reply to a question: its message, or the id of it. ``error`` says that there is no answer, and why.

        Return the receipt of the reply.
        Raises ``QuestionEnded`` if its time is over or another reply came before, and ``QuestionNotFound``.
        """
        to_message = question if isinstance(question, str) else question.id
        asker = None if isinstance(question, str) else question.reply_to
        frame: dict[str, Any] = {"type": "reply", "to_message": to_message, "payload": dict(payload or {})}
        # A repeat of another process is no second reply, so it has the same id.
        frame["id"] = id or f"arq_{hashlib.sha256(f'{asker}/{to_message}'.encode()).hexdigest()[:32]}"
        if asker is not None:
            frame["reply_to"] = asker  # Two askers can choose the same id.
        if message is not None:
            frame["message"] = message
        if error is not None:
            frame["error"] = error
        tracing.inject(frame)
        return await self._publish(frame, ack=True, timeout=timeout)

    @overload
    def answers(self, handler: H, *, concurrency: int = 16) -> H: ...

    @overload
    def answers(self, handler: None = None, *, concurrency: int = 16) -> Callable[[H], H]: ...

    def answers(self, handler: H | None = None, *, concurrency: int = 16) -> H | Callable[[H], H]:
        """Answer the questions to this client: ``@bus.answers`` above ``async def add(question): …``.

        What the function returns is the payload of the reply; anything but a mapping becomes ``{"result": …}``. An exception is
        logged, and its text is the reply's error. An ``async`` function runs in the loop and a plain one in a thread, for
        ``concurrency`` questions at once. Iterators over the inbox do not get the questions any more.

        The mark of the inbox moves behind the answered questions. So a client with a log-in, a token or an ``identity`` also
        answers the durable questions that came while it was away.
        """
        if handler is None:
            return lambda function: self.answers(function, concurrency=concurrency)
        if self._responder is not None:
            raise RuntimeError("This bus answers already. One function answers all questions of a client.")
        if concurrency < 1:
            raise ValueError("`concurrency` must be 1 or more.")
        self._check()
        self._responder = Responder(cast("Bus", self), handler, concurrency)
        self._spawn(self._responder.run())
        return handler

    def _shown(self, frame: dict[str, Any]) -> bool:
        """Return whether an iterator over the inbox gets a message: no reply that ``ask`` takes, no question for ``answers``."""
        if self._questions.takes(frame):
            return False
        return self._responder is None or not is_question(frame)
