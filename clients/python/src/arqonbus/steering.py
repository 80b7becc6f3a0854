"""The messages that want to steer a stream, as its owner sees them."""

from __future__ import annotations

from collections import deque
from typing import Any

from .messages import Message

#: The largest number of ids that one part says are taken.
MOST_TOOK = 100


class Steer:
    """A message that wants to steer the owner of a stream. Call :meth:`took` when the model has it."""

    def __init__(self, message: Message, steering: Steering) -> None:
        #: The message, as every member of the channel receives it.
        self.message = message
        self._steering = steering

    @property
    def id(self) -> str:
        """The id of the message."""
        return self.message.id

    @property
    def sender(self) -> str:
        """The client id of who sent the message."""
        return self.message.sender

    @property
    def text(self) -> str:
        """The text of the message."""
        return self.message.text

    @property
    def payload(self) -> dict[str, Any]:
        """The payload of the message."""
        return self.message.payload

    def took(self) -> None:
        """Say that the model has this message. The next part or the end tells the server. The others stand in ``untaken``."""
        self._steering.took(self.id)


class Steering:
    """The steers of one stream: those that wait for the program, and those that it took. Each comes once."""

    def __init__(self) -> None:
        self._waiting: deque[Steer] = deque()
        self._open: set[str] = set()
        self._done: set[str] = set()
        self._taken: list[str] = []

    def came(self, frame: dict[str, Any]) -> bool:
        """Handle a steer, which may be a repeated one. Returns whether it is new."""
        message = Message.of(frame)
        if message.id in self._open or message.id in self._done:
            return False
        self._open.add(message.id)
        self._waiting.append(Steer(message, self))
        return True

    def next(self) -> Steer | None:
        """Return the next steer for the program, or None."""
        return self._waiting.popleft() if self._waiting else None

    def took(self, id: str) -> None:
        """Handle that the program took a steer."""
        if id in self._open:
            self._open.discard(id)
            self._done.add(id)
            self._taken.append(id)

    def taking(self) -> list[str]:
        """Return the ids that the next part says are taken."""
        ids, self._taken = self._taken[:MOST_TOOK], self._taken[MOST_TOOK:]
        return ids

    @property
    def left(self) -> tuple[str, ...]:
        """The ids of the known steers that the program did not take."""
        return tuple(sorted(self._open))
