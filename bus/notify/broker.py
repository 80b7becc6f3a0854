"""The broker: one process's end of the notifications. There are two, which differ in whether other processes can be reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..conf.settings import config
from .layer import is_configured, links_over, shared_layer
from .layer_broker import LayerBroker
from .messages import Notification


class Broker(Protocol):
    """What a node needs of its broker."""

    #: Called after the layer was away: notifications of the meantime are lost.
    on_reconnect: Callable[[], None]

    @property
    def alone(self) -> bool:
        """Whether no other process can be reached, so that a notification need not even be made."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the other processes can be reached, as far as we know."""
        ...

    @property
    def overloaded(self) -> bool:
        """Whether no ephemeral message should be accepted now, since it would not reach the other processes."""
        ...

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be sent."""
        ...

    @property
    def skipped(self) -> int:
        """Ephemeral frames and presence notices that were not sent."""
        ...

    async def start(self) -> None:
        """Begin to receive and to send."""
        ...

    async def stop(self) -> None:
        """Send what still waits, for a moment at most, and end."""
        ...

    def send(self, notification: Notification) -> None:
        """Notify the other processes; returns at once, and never raises."""
        ...

    async def follow(self, topic: str) -> None:
        """Receive the notifications of a topic, from the return on at the latest."""
        ...

    def follow_soon(self, topic: str) -> None:
        """Receive the notifications of a topic from soon on."""
        ...

    def unfollow(self, topic: str) -> None:
        """Receive no more notifications of a topic."""
        ...


class NullBroker:
    """The broker of a process that is the only one: there is nobody to notify."""

    alone = connected = True
    overloaded = False
    waiting_bytes = skipped = 0

    def __init__(self) -> None:
        self.on_reconnect: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Nothing has to be started."""

    async def stop(self) -> None:
        """Nothing has to be stopped."""

    def send(self, notification: Notification) -> None:
        """Drop the notification."""

    async def follow(self, topic: str) -> None:
        """Nobody else has messages of the topic."""

    def follow_soon(self, topic: str) -> None:
        """Nobody else has messages of the topic."""

    def unfollow(self, topic: str) -> None:
        """Nobody else has messages of the topic."""


def broker_for(receive: Callable[[Notification], None]) -> Broker:
    """The broker that fits the project's channel layer. ``receive`` is called with each notification of another process.

    Raises ``RuntimeError`` where the project has no channel layer.
    """
    if not is_configured():
        raise RuntimeError(
            "CHANNEL_LAYERS has no default layer. Configure one; the in-memory layer is enough for one process."
        )
    layer = shared_layer()
    if layer is None:
        return NullBroker()
    return LayerBroker(links_over(layer), receive, buffer=config().bell_buffer)
