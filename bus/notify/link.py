"""A link to the other processes as notifications use it: topics are joined, and messages are sent to topics.

Every call has a time limit. What a link raises goes on to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

#: The time limit of one call, in seconds.
CALL_TIMEOUT = 2.0

#: How long one wait for a message lasts, in seconds. The 5 of channels_redis are also redis-py's own limit for an answer (since
#: its version 8), so that on a quiet bus the two race: a false alarm every few seconds, and now and then a lost message.
RECEIVE_TIMEOUT = 2

#: What redis-py raises for a broken line, which it replaces by itself. Every other error is an answer: of the wrong server
#: (READONLY, MASTERDOWN, CLUSTERDOWN, LOADING), or a refusal (NOAUTH, NOPERM). The pool would keep those connections for good.
_BROKEN_LINE = ("ConnectionError", "TimeoutError")

#: What links raise for a message that they cannot read; a link that is down raises errors of other kinds.
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)

#: A topic, and a message for it.
Post = tuple[str, dict[str, Any]]


class Link(Protocol):
    """One way to the other processes."""

    @property
    def name(self) -> str:
        """This process's name as a sender; empty before :meth:`open`."""
        ...

    @property
    def renewal(self) -> float | None:
        """Seconds after which every topic has to be joined again; None where that is never needed."""
        ...

    async def open(self) -> None:
        """Take a name."""
        ...

    async def close(self) -> None:
        """End the link. Nothing else is called afterwards."""
        ...

    async def receive(self) -> object:
        """Return the next message. Raises one of :data:`UNREADABLE` for a message that the link cannot read."""
        ...

    async def send(self, posts: Sequence[Post]) -> None:
        """Send messages, in their order."""
        ...

    async def join(self, topics: Sequence[str]) -> None:
        """Receive the messages of these topics. Returns once every later message comes."""
        ...

    async def leave(self, topics: Sequence[str]) -> None:
        """Receive no more messages of these topics."""
        ...

    async def reconnect(self) -> None:
        """Close the connections. New ones lead to the server that the address leads to by now. No topic is joined then."""
        ...

    async def check(self) -> None:
        """Raise where the other end answers and is not the right one."""
        ...


def is_answer(problem: Exception) -> bool:
    """Whether the error is a server's answer, so that only another server or connection can give a better one."""
    return not isinstance(problem, (OSError, TimeoutError)) and type(problem).__name__ not in _BROKEN_LINE
