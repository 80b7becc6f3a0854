"""One link to the other processes with all that belongs to it: queue, topics, health, listener."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from ..monitoring.log_lines import Damper
from .following import Following
from .health import LinkHealth
from .link import UNREADABLE, Link
from .messages import Notification, from_layer
from .sender import Sender

logger = logging.getLogger("arqonbus.broker")

#: Seconds for what still waits at the end of the process.
FAREWELL = 1.0


class Line:
    """Sends and receives notifications over one link. ``receive`` is called in the loop with each of another process."""

    def __init__(
        self,
        link: Link,
        receive: Callable[[Notification], None],
        *,
        always: Iterable[str],
        limit: int,
        reconnected: Callable[[], None],
    ) -> None:
        self._link = link
        self._receive = receive
        self.health = LinkHealth()
        self.sender = Sender(link, self.health, limit=limit)
        self.following = Following(link, self.health, always=always, reconnected=reconnected)
        self._tasks: list[asyncio.Task[None]] = []
        # Lines about messages of other programs: one a minute.
        self._foreign_lines = Damper(rate=1 / 60, burst=1.0)

    async def start(self) -> None:
        """Begin to receive and to send. Where the other end is not there yet, go on trying."""
        await self._link.open()
        works = (self._listen(), self.sender.run(), self.following.change())
        self._tasks = [asyncio.ensure_future(work) for work in works]
        await self.following.join_first()
        self._tasks.append(asyncio.ensure_future(self.following.run()))

    async def stop(self) -> None:
        """Send what still waits, for a moment at most, and leave."""
        try:
            async with asyncio.timeout(FAREWELL):
                while not self.sender.idle and self.health.connected:  # noqa: ASYNC110 - for a second, once in a life
                    await asyncio.sleep(0.01)
                await self.following.leave_all()
        except Exception as problem:  # noqa: BLE001 - a link may raise anything; we are leaving
            logger.debug("leaving the layer: %s", problem)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # A layer may want to say goodbye to a Redis that does not answer.
            await asyncio.wait(self._tasks, timeout=FAREWELL)
        await self._link.close()

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._link.receive()
            except UNREADABLE:
                self.following.message_received()
                self._report_foreign()
                await asyncio.sleep(0)
                continue
            except Exception as problem:  # noqa: BLE001 - a link may raise anything
                self.health.receive_failed(problem)
                await asyncio.sleep(0.25)
                continue
            self.following.message_received()
            if isinstance(message, dict) and message.get("sender") == self._link.name:
                continue
            notifications = from_layer(message)
            if notifications is None:
                self._report_foreign()
                continue
            for notification in notifications:
                try:
                    self._receive(notification)
                except Exception:
                    # One notification that cannot be acted on must not end the listening.
                    logger.exception("a notification failed", extra={"event": "internal_error"})

    def _report_foreign(self) -> None:
        left_out = self._foreign_lines.admit()
        if left_out is not None:
            logger.warning(
                "ignored a message on the channel layer that is not sealed with our SECRET_KEY",
                extra={"event": "bell_unknown", "left_out": left_out},
            )
