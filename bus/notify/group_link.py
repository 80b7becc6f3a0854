"""A link over any channel layer: a topic is a group, and this process is one channel of the layer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from channels.layers import BaseChannelLayer

from .link import CALL_TIMEOUT, Post

#: The most seconds between two renewals of the memberships.
RENEWAL = 600.0


class GroupLink:
    """This process's own channel on the layer, and its membership in groups."""

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._layer = layer
        #: The channel's name.
        self.name = ""
        expiry = float(getattr(layer, "group_expiry", 86_400) or 86_400)
        #: The layer forgets memberships.
        self.renewal: float | None = min(expiry / 3, RENEWAL)

    async def open(self) -> None:
        """Take a name."""
        self.name = await self._layer.new_channel("arqonbus")  # type: ignore[call-arg]

    async def close(self) -> None:
        """Nothing of the layer is this link's own."""

    async def receive(self) -> object:
        """Return the next message."""
        return await self._layer.receive(self.name)

    async def send(self, posts: Sequence[Post]) -> None:
        """Send messages to their groups."""
        for topic, message in posts:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._layer.group_send(_group(topic), message)

    async def join(self, topics: Sequence[str]) -> None:
        """Become a member of groups, or stay it."""
        for topic in topics:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._layer.group_add(_group(topic), self.name)

    async def leave(self, topics: Sequence[str]) -> None:
        """Leave groups."""
        for topic in topics:
            async with asyncio.timeout(CALL_TIMEOUT):
                await self._layer.group_discard(_group(topic), self.name)

    async def reconnect(self) -> None:
        """A layer looks after its connections itself."""

    async def check(self) -> None:
        """A layer cannot be asked."""


def _group(topic: str) -> str:
    return f"arqonbus.{topic}"
