"""The messages of the blocking client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Self

from . import answers, messages
from .blocking import Loop


class Message(messages.Message):
    """A message of the blocking client. See :class:`arqonbus.Message`."""

    __slots__ = ("loop",)
    loop: Loop

    def mark(self) -> None:  # type: ignore[override] # blocking
        """Move this client's mark of the log up to this message. See :meth:`arqonbus.Message.mark`."""
        self.loop.call(super().mark())

    def reply(  # type: ignore[override] # blocking
        self,
        payload: Mapping[str, Any] | None = None,
        *,
        message: str | None = None,
        error: str | None = None,
    ) -> None:
        """Reply to this question. See :meth:`arqonbus.Bus.reply`."""
        self.loop.call(super().reply(payload, message=message, error=error))

    def edit(self, text: str | None = None, *, payload: Mapping[str, Any] | None = None) -> messages.Receipt:  # type: ignore[override] # blocking
        """Replace the text, the payload, or both. See :meth:`arqonbus.Bus.edit`."""
        return self.loop.call(super().edit(text, payload=payload))

    def delete(self) -> messages.Receipt:  # type: ignore[override] # blocking
        """Delete this message for its readers. See :meth:`arqonbus.Bus.delete`."""
        return self.loop.call(super().delete())

    def react(self, reaction: str) -> messages.Receipt:  # type: ignore[override] # blocking
        """React to this message. See :meth:`arqonbus.Bus.react`."""
        return self.loop.call(super().react(reaction))

    def unreact(self, reaction: str) -> messages.Receipt:  # type: ignore[override] # blocking
        """Take the own reaction back. See :meth:`arqonbus.Bus.unreact`."""
        return self.loop.call(super().unreact(reaction))

    def deltas(self) -> Iterator[Any]:  # type: ignore[override] # blocking
        """Yield the text once. A streamed message yields its pieces while they arrive."""
        if self.text:
            yield self.text

    def ended(self) -> Self:  # type: ignore[override] # blocking
        """Return the message. A streamed message waits for its end."""
        return self


class Answer(answers.Answer):
    """A streamed message of the blocking client. See :class:`arqonbus.Answer`."""

    __slots__ = ("loop",)
    loop: Loop

    def mark(self) -> None:  # type: ignore[override] # blocking
        """Move this client's mark of the log up to this message. See :meth:`arqonbus.Message.mark`."""
        self.loop.call(super().mark())

    def deltas(self) -> Iterator[Any]:  # type: ignore[override] # blocking
        """Yield what is here, and then each piece when it arrives, until the end. See :meth:`arqonbus.Answer.deltas`."""
        return self.loop.each(super().deltas())

    def ended(self) -> Self:  # type: ignore[override] # blocking
        """Wait for the end, and return this message with the whole text. See :meth:`arqonbus.Answer.ended`."""
        self.loop.call(super().ended())
        return self


_FIELDS = [field.name for field in fields(messages.Message)]


def blocking(loop: Loop, message: messages.Message) -> Message | Answer:
    """Return a message of the asyncio client as one of the blocking client."""
    values = {name: getattr(message, name) for name in _FIELDS}
    if not isinstance(message, answers.Answer):
        plain = Message(**values)
        object.__setattr__(plain, "loop", loop)
        plain.received(message.bus)
        _fold(loop, message, plain)
        return plain
    answer = Answer(**values)
    object.__setattr__(answer, "growth", message.growth)
    object.__setattr__(answer, "loop", loop)
    answer.received(message.bus)
    _fold(loop, message, answer)
    return answer


def _fold(loop: Loop, message: messages.Message, copy: Message | Answer) -> None:
    """Give a copy what the message knows of its amendments."""
    now = message.folded
    copy.fold(copy if now is message else None if now is None else blocking(loop, now))
