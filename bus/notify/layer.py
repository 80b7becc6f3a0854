"""The channel layer as notifications use it. Every call has a time limit; what a layer raises goes on to the caller."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer

logger = logging.getLogger("arqonbus.broker")

#: The time limit of one call, in seconds.
CALL_TIMEOUT = 2.0

#: How long one wait for a message lasts, in seconds. The 5 of channels_redis are also redis-py's own limit for an answer (since
#: its version 8), so that on a quiet bus the two race: a false alarm every few seconds, and now and then a lost message.
RECEIVE_TIMEOUT = 2

#: What redis-py raises for a broken line, which it replaces by itself. Every other error is an answer: of the wrong server
#: (READONLY, MASTERDOWN, CLUSTERDOWN, LOADING), or a refusal (NOAUTH, NOPERM). The pool would keep those connections for good.
_BROKEN_LINE = ("ConnectionError", "TimeoutError")

#: What layers raise for a message that they cannot read; a layer that is away raises errors of other kinds.
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)


def shared_layer() -> BaseChannelLayer | None:
    """The default channel layer, where it can reach other processes; None for the in-memory layer, or without a layer."""
    layer = get_channel_layer()
    return None if layer is None or isinstance(layer, InMemoryChannelLayer) else layer


def is_configured() -> bool:
    """Whether ``CHANNEL_LAYERS`` has a default layer."""
    return get_channel_layer() is not None


def is_answer(problem: Exception) -> bool:
    """Whether the error is a server's answer, so that only another server or connection can give a better one."""
    return not isinstance(problem, (OSError, TimeoutError)) and type(problem).__name__ not in _BROKEN_LINE


async def send(layer: BaseChannelLayer, group: str, message: dict[str, Any]) -> None:
    """Send a message to a group."""
    async with asyncio.timeout(CALL_TIMEOUT):
        await layer.group_send(group, message)


class LayerChannel:
    """This process's own channel on the layer, and its membership in groups."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._layer = layer
        #: The channel's name, which is also this process's name as a sender; empty before :meth:`open`.
        self.name = ""
        if hasattr(layer, "brpop_timeout"):
            layer.brpop_timeout = RECEIVE_TIMEOUT

    @property
    def group_expiry(self) -> float:
        """How long the layer remembers a membership, in seconds."""
        return float(getattr(self._layer, "group_expiry", 86_400) or 86_400)

    async def open(self) -> None:
        """Take a name."""
        self.name = await self._layer.new_channel("arqonbus")  # type: ignore[call-arg]

    async def receive(self) -> object:
        """The next message. Raises one of :data:`UNREADABLE` for a message that the layer cannot read."""
        return await self._layer.receive(self.name)

    async def send(self, group: str, message: dict[str, Any]) -> None:
        """Send a message to a group."""
        await send(self._layer, group, message)

    async def join(self, group: str) -> None:
        """Become a member of a group, or stay it for another :attr:`group_expiry`."""
        async with asyncio.timeout(CALL_TIMEOUT):
            await self._layer.group_add(group, self.name)

    async def leave(self, group: str) -> None:
        """Leave a group."""
        await self._layer.group_discard(group, self.name)

    async def reconnect(self) -> None:
        """Close the layer's connections. The layer makes new ones, to the server that its address leads to by now."""
        close = getattr(self._layer, "close_pools", None)
        if close is None:
            return
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                await close()
        except Exception as problem:  # noqa: BLE001 - connections that do not work may not even close
            logger.debug("closing the layer's connections: %s", problem)

    async def is_member(self, group: str) -> bool:
        """Whether the layer knows the membership, which a flushed Redis does not. True where a layer cannot be asked."""
        connection = getattr(self._layer, "connection", None)
        key = getattr(self._layer, "_group_key", None)
        if connection is None or key is None:
            return True
        async with asyncio.timeout(CALL_TIMEOUT):
            redis = connection(self._layer.consistent_hash(group))  # type: ignore[attr-defined]
            return await redis.zscore(key(group), self.name) is not None
