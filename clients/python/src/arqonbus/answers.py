"""A received streamed message: one message whose text or parts grow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from .errors import StreamReset
from .growing import RESET, Growth
from .messages import Message


class Answer(Message):
    """A streamed message. Its ``text`` or its ``parts`` grow until ``state`` is no longer ``open``.

    ``id`` is the name of the stream: for ``stop_stream``, ``adopt_stream`` and ``publish(steer=…)``.
    """

    __slots__ = ("growth",)
    growth: Growth

    @classmethod
    def grown(cls, frame: dict[str, Any], growth: Growth, *, after_gap: bool = False, bus: Any = None) -> Answer:
        """Build a message from its opening, its snapshot or its end, and from what has arrived of it."""
        if "of" in frame:  # A snapshot or an end stands for the opening, whose payload is not here.
            frame = {**frame, "id": growth.of, "type": "event", "payload": {}}
        answer = cls.of(frame, after_gap=after_gap, bus=bus)
        object.__setattr__(answer, "growth", growth)
        return answer

    @property
    def text(self) -> str:
        """The text so far: always a beginning of the whole text. Empty in the mode ``parts``."""
        return self.growth.text

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts so far, in the mode ``parts``."""
        return self.growth.parts

    @property
    def state(self) -> str:
        """``open``, then ``complete``, ``aborted`` or ``stopped``."""
        return self.growth.state

    @property
    def mode(self) -> str:
        """``text`` or ``parts``."""
        return self.growth.mode

    @property
    def have(self) -> int:
        """The number of the last part that arrived."""
        return self.growth.have

    @property
    def attempt(self) -> int:
        """The number of owners so far. A new owner may have thrown away the text of the earlier one."""
        return self.growth.attempt

    @property
    def end_payload(self) -> dict[str, Any]:
        """The payload of the end, such as figures of the run. Empty before."""
        return self.growth.end_payload

    @property
    def untaken(self) -> tuple[str, ...]:
        """The ids of the steers that the owner did not take. Empty before the end."""
        return self.growth.untaken

    @property
    def end_seq(self) -> int | None:
        """Seq of the end. None before."""
        return self.growth.end_seq

    @property
    def late(self) -> bool:
        """Whether the subscription began after the opening. Then the payload of the opening is not here."""
        return "of" in self.raw

    async def deltas(self) -> AsyncIterator[Any]:
        """Yield what is here, and then each piece when it arrives, until the end: texts, or objects in the mode ``parts``.

        Raises ``StreamReset`` if a new owner threw away what was yielded. ``text`` is right then, and ``deltas`` may be called
        again. If no end can arrive, it raises the error that ended the subscription.
        """
        growth = self.growth
        queue = growth.feed()
        try:
            while True:
                while queue:
                    piece = queue.popleft()
                    if piece is RESET:
                        raise StreamReset(f"A new owner of the message {self.id} started it anew.")
                    yield piece
                if growth.error is not None:
                    raise growth.error
                if growth.over:
                    return
                await growth.changed()
        finally:
            growth.unfeed(queue)

    async def ended(self) -> Self:
        """Wait for the end, and return this message with the whole text.

        Raises the error that ended the subscription before. Raises ``RuntimeError`` for an open message of the history, which
        does not grow.
        """
        growth = self.growth
        while not growth.over:
            await growth.changed()
        if growth.error is not None:
            raise growth.error
        if growth.state == "open":
            raise RuntimeError("An open message of the history does not grow. Subscribe to its channel.")
        return self


def as_message(frame: dict[str, Any]) -> Message:
    """Build a message of a page of history. A folded streamed message has its text and state."""
    told = frame.get("stream")
    if not isinstance(told, dict):
        return Message.of(frame)
    of = frame.get("of") if frame.get("type") == "stream_end" else frame.get("id")
    growth = Growth(str(of), f"{frame.get('room')}:{frame.get('channel')}", live=False)
    if frame.get("type") == "stream_end":
        growth.end(frame)
    else:
        growth.folded(frame)
    return Answer.grown(frame, growth)
