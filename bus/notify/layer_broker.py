"""The broker of a process that is one of several: notifications go over the channel layer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from channels.layers import BaseChannelLayer

from ..monitoring.log_lines import Damper
from .groups import Groups
from .health import LayerHealth
from .layer import UNREADABLE, LayerChannel
from .messages import Notification, from_layer
from .sender import Sender

logger = logging.getLogger("arqonbus.broker")

#: Seconds for what still waits at the end of the process.
FAREWELL = 1.0


class LayerBroker:
    """Sends and receives notifications. ``receive`` is called in the loop with each notification of another process."""

    alone = False

    def __init__(
        self, layer: BaseChannelLayer, receive: Callable[[Notification], None], *, shards: int, buffer: int
    ) -> None:
        self._receive = receive
        self._channel = LayerChannel(layer)
        self._health = LayerHealth()
        self._sender = Sender(self._channel, self._health, shards=shards, limit=buffer)
        self._groups = Groups(self._channel, self._health, shards=shards, reconnected=lambda: self.on_reconnect())
        self._tasks: list[asyncio.Task[None]] = []
        # Lines about messages of other programs: one a minute.
        self._foreign_lines = Damper(rate=1 / 60, burst=1.0)
        #: Called after the layer was away: notifications of the meantime are lost.
        self.on_reconnect: Callable[[], None] = lambda: None

    @property
    def connected(self) -> bool:
        """Whether the layer works, as far as we know: it takes messages, and brings them back."""
        return self._health.connected

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the layer."""
        return self._sender.waiting_bytes

    @property
    def skipped(self) -> int:
        """Ephemeral frames and presence notices that were not sent; they are in no log."""
        return self._sender.skipped

    @property
    def overloaded(self) -> bool:
        """Whether no ephemeral message should be accepted, since the queue is full and the message would not be sent.

        False while the layer is away: ephemeral messages are for this process's members then.
        """
        return self.connected and self._sender.full

    async def start(self) -> None:
        """Begin to receive and to send. Where the layer is not there yet, go on trying."""
        await self._channel.open()
        self._tasks = [asyncio.ensure_future(work) for work in (self._listen(), self._sender.run(), self._groups.run())]
        await self._groups.join_first()

    async def stop(self) -> None:
        """Send what still waits, for a moment at most, and leave the layer."""
        try:
            async with asyncio.timeout(FAREWELL):
                while not self._sender.idle and self.connected:  # noqa: ASYNC110 - for a second, once in a life
                    await asyncio.sleep(0.01)
                await self._groups.leave_all()
        except Exception as problem:  # noqa: BLE001 - a layer may raise anything; we are leaving
            logger.debug("leaving the layer: %s", problem)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # A layer may want to say goodbye to a Redis that does not answer.
            await asyncio.wait(self._tasks, timeout=FAREWELL)

    def send(self, notification: Notification) -> None:
        """Notify the other processes; returns at once, and never raises."""
        self._sender.send(notification)

    async def subscribe(self, channel_id: int) -> None:
        """Receive the notifications about a channel from now on."""
        await self._groups.subscribe(channel_id)

    async def _listen(self) -> None:
        while True:
            try:
                message = await self._channel.receive()
            except UNREADABLE:
                self._groups.message_received()
                self._report_foreign()
                await asyncio.sleep(0)
                continue
            except Exception as problem:  # noqa: BLE001 - a layer may raise anything
                self._health.receive_failed(problem)
                await asyncio.sleep(0.25)
                continue
            self._groups.message_received()
            if isinstance(message, dict) and message.get("sender") == self._channel.name:
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
