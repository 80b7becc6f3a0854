"""The project's channel layer, and the links that lead over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer

from .group_link import GroupLink
from .link import Link
from .redis_link import RedisLink


def shared_layer() -> BaseChannelLayer | None:
    """The default channel layer, where it can reach other processes; None for the in-memory layer, or without a layer."""
    layer = get_channel_layer()
    return None if layer is None or isinstance(layer, InMemoryChannelLayer) else layer


def is_configured() -> bool:
    """Whether ``CHANNEL_LAYERS`` has a default layer."""
    return get_channel_layer() is not None


def links_over(layer: BaseChannelLayer) -> Sequence[Link]:
    """New links over a layer: one to each host of a layer of channels_redis, and else one over the layer's groups.

    To be called in an event loop.
    """
    hosts = _redis_hosts(layer)
    if not hosts:
        return [GroupLink(layer)]
    settings: Any = layer
    return [RedisLink(host, settings.prefix, settings.serialize, settings.deserialize) for host in hosts]


async def reach(layer: BaseChannelLayer) -> None:
    """Send something to every host that nobody listens to. Raises what a link raises."""
    links = links_over(layer)
    try:
        for link in links:
            await link.send([("preflight", {"type": "bus.notification", "sender": "", "data": b""})])
    finally:
        for link in links:
            await link.close()


def _redis_hosts(layer: Any) -> list[dict[str, Any]]:
    """The hosts of a layer of channels_redis, as its ``create_pool`` takes them."""
    try:
        from channels_redis.core import RedisChannelLayer
        from channels_redis.pubsub import RedisPubSubChannelLayer
    except ImportError:
        return []
    if isinstance(layer, RedisChannelLayer):
        return list(layer.hosts)
    if isinstance(layer, RedisPubSubChannelLayer):
        return [shard.host for shard in layer._shards]
    return []
