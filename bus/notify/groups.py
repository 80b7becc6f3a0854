"""This process's membership in groups of the channel layer: joined, renewed before it expires, joined anew after a fault."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from .health import ECHO_TIMEOUT, LayerHealth
from .layer import LayerChannel
from .messages import CONTROL_GROUP, shard_group, to_layer

logger = logging.getLogger("arqonbus.broker")

#: How soon after a fault the layer is tried again, in seconds. A layer that answers by then was not away: one connection of its
#: pool was broken. Connections that outlived a restart of Redis fail once each.
RETRY = 0.25

#: The most seconds between two checks of a layer that seems to work.
CHECK_INTERVAL = 2.0
#: The most seconds between two renewals of the memberships.
RENEWAL = 600.0


class Groups:
    """The groups of this process, and the loop that keeps its membership in them."""

    def __init__(
        self, channel: LayerChannel, health: LayerHealth, *, shards: int, reconnected: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._health = health
        self._shards = shards
        # Called once the layer works again: notifications of the meantime are lost.
        self._reconnected = reconnected
        # A group with no other member, over which the process receives its own messages.
        self._echo_group = f"arqonbus.echo.{secrets.token_hex(8)}"
        self._groups: set[str] = {CONTROL_GROUP, self._echo_group}
        # Set by every message that comes over the layer.
        self._received = asyncio.Event()

    async def join_first(self) -> None:
        """Join the groups that every process is in."""
        for group in (CONTROL_GROUP, self._echo_group):
            await self._join(group)

    async def leave_all(self) -> None:
        """Leave all groups. Raises what the layer raises."""
        for group in self._groups:
            await self._channel.leave(group)

    async def subscribe(self, channel_id: int) -> None:
        """Join the group of a channel; that costs nothing where it is joined already."""
        group = shard_group(channel_id, self._shards)
        if group not in self._groups:
            self._groups.add(group)
            if self._health.connected:
                await self._join(group)
            # Else :meth:`run` joins it once the layer is back; until then the looks at the log find the messages.

    def message_received(self) -> None:
        """Note that the layer brought a message, whosever it is."""
        self._received.set()

    async def run(self) -> None:
        """Keep the memberships until cancelled."""
        health = self._health
        period = min(self._channel.group_expiry / 3, RENEWAL)
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            if health.connected:
                await health.wait_for_fault(min(period, CHECK_INTERVAL))
            if not health.connected:
                if await self._recover():
                    renewed = clock()
                    health.recovered()
                    self._reconnected()
            elif clock() - renewed >= period:
                renewed = clock()
                await self._join_all()
            elif not await self._is_member():
                logger.warning("the channel layer lost our groups; joining them again", extra={"event": "layer_forgot"})
                if await self._join_all():
                    self._reconnected()
            else:
                await self._echo()

    async def _recover(self) -> bool:
        """One try after a fault; whether the layer works."""
        await asyncio.sleep(RETRY)
        if self._health.stale:
            self._health.stale = False
            await self._channel.reconnect()
        if await self._join_all() and await self._echo():
            return True
        # Connections that do not work by now never will.
        self._health.stale = True
        self._health.report_lost()
        return False

    async def _is_member(self) -> bool:
        try:
            return await self._channel.is_member(CONTROL_GROUP)
        except Exception as problem:  # noqa: BLE001 - a layer may raise anything
            self._health.failed(problem)
            return True

    async def _echo(self) -> bool:
        """Whether a message of this process comes back through the layer, or any other message meanwhile.

        A layer that takes messages may still bring none: a Redis may forbid its user to read, or be two servers.
        """
        self._received.clear()
        self._health.echo_sent()
        try:
            await self._channel.send(self._echo_group, to_layer([], self._channel.name))
        except Exception as problem:  # noqa: BLE001 - a layer may raise anything
            self._health.failed(problem)
            return False
        try:
            async with asyncio.timeout(ECHO_TIMEOUT):
                await self._received.wait()
        except TimeoutError:
            self._health.echo_missing()
            return False
        self._health.echo_received()
        return True

    async def _join_all(self) -> bool:
        """Join every group, also those that are added meanwhile; whether that succeeded."""
        joined: set[str] = set()
        while missing := self._groups - joined:
            for group in missing:
                if not await self._join(group):
                    return False
            joined |= missing
        return True

    async def _join(self, group: str) -> bool:
        try:
            await self._channel.join(group)
        except Exception as problem:  # noqa: BLE001 - a layer may raise anything
            self._health.failed(problem)
            return False
        return True
