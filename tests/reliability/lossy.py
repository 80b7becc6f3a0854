"""The ready project with a channel layer that loses half of its messages: settings for servers of tests."""

from __future__ import annotations

import random
from typing import Any

from channels_redis.core import RedisChannelLayer

from arqonbus_site.settings import *  # noqa: F403
from arqonbus_site.settings import CHANNEL_LAYERS as _LAYERS

#: How often a message is lost.
LOST = 0.5

_random = random.Random(20261128)


class LossyLayer(RedisChannelLayer):
    """Redis, but for every second message to a group, which nobody gets."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send the message, or lose it."""
        if _random.random() >= LOST:
            await super().group_send(group, message)


CHANNEL_LAYERS = {"default": {**_LAYERS["default"], "BACKEND": "tests.reliability.lossy.LossyLayer"}}
