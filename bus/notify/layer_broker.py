"""The broker of a process that is one of several: notifications go over one line, or over one to each host of the layer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from zlib import crc32

from .line import Line
from .link import Link
from .messages import EphemeralPublished, Notification
from .topics import CONTROL, by_topic


class LayerBroker:
    """Sends and receives notifications. ``receive`` is called in the loop with each notification of another process."""

    alone = False

    def __init__(self, links: Sequence[Link], receive: Callable[[Notification], None], *, buffer: int) -> None:
        #: Called after a line was down: notifications of the meantime are lost.
        self.on_reconnect: Callable[[], None] = lambda: None
        self._lines = [
            Line(
                link,
                receive,
                always=[CONTROL] if number == line_number(CONTROL, len(links)) else [],
                limit=buffer,
                reconnected=lambda: self.on_reconnect(),
            )
            for number, link in enumerate(links)
        ]

    def _line(self, topic: str) -> Line:
        return self._lines[line_number(topic, len(self._lines))]

    @property
    def connected(self) -> bool:
        """Whether every line works, as far as we know: it takes messages, and brings them back."""
        return all(line.health.connected for line in self._lines)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return sum(line.sender.waiting_bytes for line in self._lines)

    @property
    def skipped(self) -> int:
        """Ephemeral frames and presence notices that were not sent; they are in no log."""
        return sum(line.sender.skipped for line in self._lines)

    @property
    def overloaded(self) -> bool:
        """Whether no ephemeral message should be accepted, since a queue is full and the message might not be sent.

        A line that is down does not count: ephemeral messages are for this process's members then.
        """
        return any(line.health.connected and line.sender.full for line in self._lines)

    async def start(self) -> None:
        """Begin to receive and to send. Where a host is not there yet, go on trying."""
        await asyncio.gather(*(line.start() for line in self._lines))

    async def stop(self) -> None:
        """Send what still waits, for a moment at most, and leave."""
        await asyncio.gather(*(line.stop() for line in self._lines))

    def send(self, notification: Notification) -> None:
        """Notify the other processes; returns at once, and never raises."""
        # Ephemeral messages that were accepted together, while there was room, are sent together: no log has those of a part
        # that is skipped because the part before it filled the queue.
        together = isinstance(notification, EphemeralPublished) and not any(line.sender.full for line in self._lines)
        for topic, part in by_topic(notification):
            self._line(topic).sender.send(topic, part, despite_full=together)

    async def follow(self, topic: str) -> None:
        """Receive the notifications of a topic, from the return on at the latest."""
        if (joined := self._line(topic).following.add(topic)) is not None:
            await asyncio.shield(joined)

    def follow_soon(self, topic: str) -> None:
        """Receive the notifications of a topic from soon on."""
        self._line(topic).following.add(topic)

    def unfollow(self, topic: str) -> None:
        """Receive no more notifications of a topic."""
        self._line(topic).following.remove(topic)


def line_number(topic: str, lines: int) -> int:
    """The line of a topic, the same in each process that has the same hosts in the same order."""
    return crc32(topic.encode()) % lines if lines > 1 else 0
