"""What is asked of a channel layer beside Channels' own interface: whether it remembers us, and that it connects anew."""

from __future__ import annotations

import asyncio
import logging

from channels.layers import BaseChannelLayer

logger = logging.getLogger("arqonbus.broker")

#: How long one question may take, in seconds.
PATIENCE = 2.0

#: What redis-py raises where the line is at fault, which it then makes anew by itself. Every other error is an answer: of a
#: server that is the wrong one by now (READONLY, MASTERDOWN, CLUSTERDOWN, LOADING) or that refuses (NOAUTH, NOPERM). The
#: connections that brought it would be kept for good.
_OF_THE_LINE = ("ConnectionError", "TimeoutError")


def answered(problem: Exception) -> bool:
    """Whether the error is a server's answer, so that only another server, or connection, can give a better one."""
    return not isinstance(problem, (OSError, TimeoutError)) and type(problem).__name__ not in _OF_THE_LINE


async def connect_anew(layer: BaseChannelLayer) -> None:
    """Close the layer's connections; it makes new ones, to the server that its address leads to by now."""
    close = getattr(layer, "close_pools", None)
    if close is None:
        return
    try:
        async with asyncio.timeout(PATIENCE):
            await close()
    except Exception as problem:  # noqa: BLE001 - connections that do not work may not even close
        logger.debug("closing the layer's connections: %s", problem)


async def remembers(layer: BaseChannelLayer, group: str, channel: str) -> bool:
    """Whether the layer knows a membership (a flushed Redis does not). True where that cannot be asked.

    Raises what the layer does.
    """
    connection = getattr(layer, "connection", None)
    key = getattr(layer, "_group_key", None)
    if connection is None or key is None:
        return True
    async with asyncio.timeout(PATIENCE):
        redis = connection(layer.consistent_hash(group))  # type: ignore[attr-defined]
        return await redis.zscore(key(group), channel) is not None
