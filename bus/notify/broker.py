"""The bell between processes: with ``bus.notify.layer`` the only module that touches the channel layer.

The contract, whatever the layer: a bell is a hint. It may be lost, doubled, late or out of order, and nobody waits for it;
what it points at is in the database. A receiver that sees a gap reads the log, and looks at the log from time to time even
when no bell rang. So everything that the layer does wrong (capacity, expiry, a restarted Redis) costs a moment, never a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer
from django.apps import apps
from django.db import transaction

from ..conf.settings import config
from ..monitoring.log_lines import Damper
from .layer import answered, connect_anew, remembers
from .messages import (
    CONTROL_GROUP,
    INLINE_BYTES,
    Bell,
    Committed,
    Published,
    addressed,
    bells_of,
    message_of,
    passing,
    shard_group,
    weight,
)
from .queue import Outbox

logger = logging.getLogger("arqonbus.broker")


#: What layers raise for a message that they cannot read; that the layer is away is told by errors of other kinds.
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)

#: How long one wait for a bell lasts, in seconds. The 5 of channels_redis are also what redis-py (since its version 8) gives
#: any answer, so that on a quiet bus the two race: a false alarm every few seconds, and now and then a bell with it.
LISTENING = 2

#: How soon after a fault the layer is tried again, in seconds. One that answers by then was not away: a connection of its pool
#: was, such as those that outlived a restart of Redis, each of which fails once.
RETRY = 0.25

#: How long the process's own echo may take to come back through the layer, in seconds: a wait for a bell, and some.
ECHO = LISTENING + 1.0


class Broker:
    """One process's end of the bell. ``alone`` is true for the in-memory layer: nobody else can hear it."""

    def __init__(self, heard: Callable[[Bell], None]) -> None:
        layer = get_channel_layer()
        if layer is None:
            raise RuntimeError("CHANNEL_LAYERS has no default layer; ArqonBus needs one (the in-memory layer will do).")
        self._layer: BaseChannelLayer = layer
        self.alone = isinstance(layer, InMemoryChannelLayer)
        if hasattr(layer, "brpop_timeout"):
            layer.brpop_timeout = LISTENING
        self._heard = heard
        self._shards = config().bell_shards
        self._channel = ""
        self._groups: set[str] = set()
        # A group with nobody else in it, over which the process hears itself.
        self._echo_group = f"arqonbus.echo.{secrets.token_hex(8)}"
        # Set by every message that comes over the layer.
        self._heard_some = asyncio.Event()
        self._outbox: Outbox[Bell] = Outbox(config().bell_buffer, INLINE_BYTES)
        # What was committed while the outbox was full: the newest message of each log, without its frame.
        self._late: dict[int, Committed] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sending = False
        # Lines about messages of somebody else: one a minute.
        self._strangers = Damper(rate=1 / 60, burst=1.0)
        # Set by every fault, cleared once all groups are joined again.
        self._fault = asyncio.Event()
        self._problem = ""
        # Whether what was sent last did not come back, and what came instead of it.
        self._unheard = False
        self._refused = ""
        # Whether the layer's connections are to be made anew before it is tried again.
        self._worn = False
        self._said_lost = False
        #: Called after the layer was away: what was rung meanwhile is lost.
        self.on_return: Callable[[], None] = lambda: None
        #: Ephemeral frames and notices that did not go to the other processes; nobody can read them anywhere.
        self.skipped = 0

    @property
    def connected(self) -> bool:
        """Whether the layer works, as far as we know: what is sent is taken, and comes back."""
        return not self._fault.is_set()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the layer."""
        return self._outbox.bytes

    @property
    def crowded(self) -> bool:
        """Whether more waits for the layer than may. Then no ephemeral message should be accepted, since it would not cross.

        False while the layer is away: then such messages are for this process's members, as long as that lasts.
        """
        return self.connected and self._outbox.full

    async def start(self) -> None:
        """Listen. Where the layer is not there yet, go on trying."""
        if self.alone:
            return
        self._channel = await self._layer.new_channel("arqonbus")  # type: ignore[call-arg]
        self._groups.update((CONTROL_GROUP, self._echo_group))
        self._tasks = [
            asyncio.ensure_future(self._listen()),
            asyncio.ensure_future(self._send_out()),
            asyncio.ensure_future(self._renew()),
        ]
        await self._join(CONTROL_GROUP)
        await self._join(self._echo_group)

    async def stop(self) -> None:
        """Ring what is left, for a moment at most, and leave."""
        if self.alone:
            return
        try:
            async with asyncio.timeout(1.0):
                while (self._outbox or self._late or self._sending) and self.connected:  # noqa: ASYNC110 - for a second, once in a life
                    await asyncio.sleep(0.01)
                for group in self._groups:
                    await self._layer.group_discard(group, self._channel)
        except Exception as problem:  # noqa: BLE001 - a layer may raise anything; we are leaving
            logger.debug("leaving the layer: %s", problem)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            # A layer may want to say goodbye to a Redis that does not answer.
            await asyncio.wait(self._tasks, timeout=1.0)

    # --- ringing --------------------------------------------------------------------------------------------------

    def ring(self, bell: Bell) -> None:
        """Tell the other processes; returns at once, and never raises."""
        if self.alone:
            return
        for group, part in addressed(bell, self._shards):
            self._post(group, part)
        self._wake.set()

    def _post(self, group: str, bell: Bell) -> None:
        if self._outbox.full:
            if isinstance(bell, Published):
                for row in bell.messages:
                    self._late[row[0]] = (*row[:5], b"")
                return
            if frames := passing(bell):
                self.skipped += frames
                return
        # The others are few and small: changes of rights, of channels, of who is there.
        self._outbox.put(group, bell, weight(bell))

    async def _send_out(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._outbox or self._late:
                if not self._outbox:
                    late, self._late = list(self._late.values()), {}
                    for start in range(0, len(late), 500):
                        for group, part in addressed(Published(late[start : start + 500]), self._shards):
                            self._outbox.put(group, part, weight(part))
                group, bells = self._outbox.take()
                self._sending = True
                try:
                    async with asyncio.timeout(2.0):
                        await self._layer.group_send(group, message_of(bells, self._channel))
                except Exception as problem:  # noqa: BLE001 - redis, OS and layer errors of many classes
                    self._went_wrong(problem)
                    self.skipped += sum(map(passing, (*bells, *self._outbox.clear())))
                    self._late.clear()
                finally:
                    self._sending = False

    # --- listening ------------------------------------------------------------------------------------------------

    async def subscribe(self, channel_id: int) -> None:
        """Hear the bells of a channel; costs nothing when one of the same shard is heard already."""
        if self.alone:
            return
        group = shard_group(channel_id, self._shards)
        if group not in self._groups:
            self._groups.add(group)
            if self.connected:
                await self._join(group)
            # Else the renewal joins it once the layer is back; until then the looks at the log do.

    async def _join(self, group: str) -> None:
        try:
            async with asyncio.timeout(2.0):
                await self._layer.group_add(group, self._channel)
        except Exception as problem:  # noqa: BLE001
            self._went_wrong(problem)

    async def _listen(self) -> None:
        while True:
            try:
                message: object = await self._layer.receive(self._channel)
            except UNREADABLE:
                self._heard_some.set()
                self._not_ours()
                await asyncio.sleep(0)
                continue
            except Exception as problem:  # noqa: BLE001
                self._refused = f"{type(problem).__name__}: {str(problem)[:200]}"
                self._went_wrong(problem)
                await asyncio.sleep(0.25)
                continue
            self._heard_some.set()
            if isinstance(message, dict) and message.get("sender") == self._channel:
                continue
            bells = bells_of(message)
            if bells is None:
                self._not_ours()
                continue
            for bell in bells:
                try:
                    self._heard(bell)
                except Exception:
                    # One bell that cannot be acted on must not make the process deaf.
                    logger.exception("a bell failed", extra={"event": "internal_error"})

    def _not_ours(self) -> None:
        left_out = self._strangers.admit()
        if left_out is not None:
            logger.warning(
                "a message in our channels of the layer that is not sealed with our SECRET_KEY; it is ignored",
                extra={"event": "bell_unknown", "left_out": left_out},
            )

    async def _renew(self) -> None:
        """Join the groups again before they expire, and after every fault."""
        expiry = float(getattr(self._layer, "group_expiry", 86_400) or 86_400)
        period = min(expiry / 3, 600.0)
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            if self.connected:
                await self._until_a_fault(min(period, 2.0))
            if not self.connected:
                await asyncio.sleep(RETRY)
                if self._worn:
                    self._worn = False
                    await connect_anew(self._layer)
                if not (await self._rejoin() and await self._echo()):
                    # Connections that do not work by now never will.
                    self._worn = True
                    self._say_lost()
                    continue
                renewed = clock()
                self._fault.clear()
                self._say_back()
                self.on_return()
            elif clock() - renewed >= period:
                renewed = clock()
                await self._rejoin()
            elif not await self._still_there():
                logger.warning("the channel layer forgot us; joining again", extra={"event": "layer_forgot"})
                if await self._rejoin():
                    self.on_return()
            else:
                await self._echo()

    async def _until_a_fault(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._fault.wait()

    async def _still_there(self) -> bool:
        """Whether the layer still knows our membership."""
        try:
            return await remembers(self._layer, CONTROL_GROUP, self._channel)
        except Exception as problem:  # noqa: BLE001
            self._went_wrong(problem)
            return True

    async def _echo(self) -> bool:
        """Whether the process hears itself through the layer, or anybody else meanwhile.

        That a layer takes what is sent says nothing of receiving, which a Redis may refuse to its user, or do elsewhere.
        """
        self._heard_some.clear()
        self._unheard = False
        try:
            async with asyncio.timeout(2.0):
                await self._layer.group_send(self._echo_group, message_of([], self._channel))
        except Exception as problem:  # noqa: BLE001
            self._went_wrong(problem)
            return False
        try:
            async with asyncio.timeout(ECHO):
                await self._heard_some.wait()
        except TimeoutError:
            self._unheard = True
            self._fault.set()
            return False
        self._refused = ""
        return True

    async def _rejoin(self) -> bool:
        """Join every group, also those that are added meanwhile; whether that went well."""
        joined: set[str] = set()
        while missing := self._groups - joined:
            for group in missing:
                try:
                    async with asyncio.timeout(2.0):
                        await self._layer.group_add(group, self._channel)
                except Exception as problem:  # noqa: BLE001
                    self._went_wrong(problem)
                    return False
            joined |= missing
        return True

    def _went_wrong(self, problem: Exception) -> None:
        """Something did not reach the layer, or us. Whether the layer is away as well, the next try of ``_renew`` shows."""
        self._problem = type(problem).__name__
        self._worn |= answered(problem)
        self._fault.set()

    def _say_lost(self) -> None:
        if not self._said_lost:
            self._said_lost = True
            if self._unheard:
                logger.error(
                    "The channel layer takes what is sent and brings nothing back (%s): let the user of REDIS_URL run every "
                    "command on the keys of REDIS_PREFIX, BZPOPMIN among them. Messages are kept, and found in the log.",
                    self._refused or f"nothing within {ECHO:g} s",
                    extra={"event": "layer_lost"},
                )
                return
            logger.error(
                "The channel layer does not answer (%s): start Redis, or correct REDIS_URL. Messages are kept, and other "
                "processes find them in the log.",
                self._problem,
                extra={"event": "layer_lost"},
            )

    def _say_back(self) -> None:
        if self._said_lost:
            self._said_lost = False
            logger.warning("the channel layer is back", extra={"event": "layer_back"})


def crowded() -> bool:
    """From any thread: whether this process should not take ephemeral messages now (``Broker.crowded``)."""
    nodes = list(apps.get_app_config("bus").nodes)  # type: ignore[attr-defined]
    return any(node.broker.crowded for node in nodes)


def ring(bell: Bell) -> None:
    """From any thread of any process: tell this process's nodes, and through one of them (or ourselves) the others."""
    nodes = list(apps.get_app_config("bus").nodes)  # type: ignore[attr-defined]
    for position, node in enumerate(nodes):
        node.hear_threadsafe(bell, pass_on=position == 0)
    if not nodes:
        _ring_from_outside(bell)


def _ring_from_outside(bell: Bell) -> None:
    """A process without a node of its own, such as a management command."""
    layer = get_channel_layer()
    if layer is None or isinstance(layer, InMemoryChannelLayer):
        return  # One process; it finds what was written in the log by itself.

    async def send(group: str, message: dict[str, Any]) -> None:
        async with asyncio.timeout(2.0):
            await layer.group_send(group, message)

    for group, part in addressed(bell, config().bell_shards):
        try:
            async_to_sync(send)(group, message_of([part], ""))
        except Exception as problem:  # noqa: BLE001
            logger.error("the channel layer does not answer: %s", problem, extra={"event": "layer_lost"})


def ring_on_commit(bell: Bell) -> None:
    """Ring once the caller's transaction is committed, and never when it is rolled back."""
    transaction.on_commit(lambda: ring(bell))
