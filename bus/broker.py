"""The bell between processes: the only module that touches the channel layer.

The contract, whatever the layer: a bell is a hint. It may be lost, doubled, late or out of order, and nobody waits for it;
what it points at is in the database. A receiver that sees a gap reads the log, and looks at the log from time to time even
when no bell rang. So everything that the layer does wrong (capacity, expiry, a restarted Redis) costs a moment, never a message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from asgiref.sync import async_to_sync
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, get_channel_layer
from django.apps import apps
from django.db import transaction

from .conf import config
from .logs import Damper
from .outbox import Outbox
from .protocol.names import INBOX_ROOM
from .seal import seal, unseal

logger = logging.getLogger("arqonbus.broker")


Committed = tuple[int, str, str, str, int, bytes]


class Published(msgspec.Struct, tag="p", array_like=True):
    """Messages were committed: ``(channel_id, room, channel, epoch, seq, frame)`` each.

    An empty frame is to be read from the log.
    """

    messages: list[Committed]


class Passing(msgspec.Struct, tag="f", array_like=True):
    """Frames for a channel's members that are not part of its log: ephemeral messages, presence."""

    frames: list[tuple[int, bytes]]


class Noticed(msgspec.Struct, tag="n", array_like=True):
    """A notice of presence for those of a channel's members who may see who is there."""

    channel_id: int
    frame: bytes


class Changed(msgspec.Struct, tag="c", array_like=True):
    """What processes remember of a channel or room is no longer true; ``deleted`` is the id of a log that went."""

    room: str
    channel: str
    deleted: int = 0


class AccessChanged(msgspec.Struct, tag="a", array_like=True):
    """Who may do what changed: look again at the connections that ``subject`` concerns (``bus.services.access``)."""

    subject: str
    id: int


class Dismiss(msgspec.Struct, tag="d", array_like=True):
    """Close a client's connection. ``connection_id`` empty: whichever it is."""

    client_id: str
    connection_id: str
    close_code: int
    code: str
    message: str


class Presence(msgspec.Struct, tag="m", array_like=True):
    """A channel's number of members changed in another process."""

    channel_id: int


Bell = Published | Passing | Noticed | Changed | AccessChanged | Dismiss | Presence

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Bell])
_one_by_one = msgspec.msgpack.Decoder(list[msgspec.Raw])
_one = msgspec.msgpack.Decoder(Bell)

#: What layers raise for a message that they cannot read; that the layer is away is told by errors of other kinds.
UNREADABLE = (ValueError, TypeError, LookupError, AssertionError)

#: Frames above this many bytes in one bell are left out and read from the log by those who need them. Bells that go together
#: in one message of the layer hold no more either, unless a single ephemeral frame does: what is on its way is copied by the
#: layer for each process.
INLINE_BYTES = 256 * 1024
CONTROL_GROUP = "arqonbus.control"
#: How long one wait for a bell lasts, in seconds. The 5 of channels_redis are also what redis-py (since its version 8) gives
#: any answer, so that on a quiet bus the two race: a false alarm every few seconds, and now and then a bell with it.
LISTENING = 2

# What a message in a bell takes besides its frame.
_ROW = 250


def shard_group(channel_id: int, shards: int) -> str:
    """The group on the layer over which a channel's bells go (Channels' alphabet, under 100 characters)."""
    return f"arqonbus.bell.{channel_id % shards}"


class Broker:
    """One process's end of the bell. ``alone`` is true for the in-memory layer: nobody else can hear it."""

    def __init__(self, heard: Callable[[Bell], None], *, layer: BaseChannelLayer | None = None) -> None:
        chosen = layer or get_channel_layer()
        if chosen is None:
            raise RuntimeError("CHANNEL_LAYERS has no default layer; ArqonBus needs one (the in-memory layer will do).")
        self._layer: BaseChannelLayer = chosen
        self.alone = isinstance(chosen, InMemoryChannelLayer)
        if hasattr(chosen, "brpop_timeout"):
            chosen.brpop_timeout = LISTENING
        self._heard = heard
        self._shards = config().bell_shards
        self._channel = ""
        self._groups: set[str] = set()
        self._outbox: Outbox[Bell] = Outbox(config().bell_buffer, INLINE_BYTES)
        # What was committed while the outbox was full: the newest message of each log, without its frame.
        self._late: dict[int, Committed] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._sending = False
        # Lines about messages of somebody else: one a minute.
        self._strangers = Damper(rate=1 / 60, burst=1.0)
        #: Whether the layer took the last bell.
        self.connected = True
        #: Called after the layer was away: what was rung meanwhile is lost.
        self.on_return: Callable[[], None] = lambda: None
        #: Ephemeral frames and notices that did not go to the other processes; nobody can read them anywhere.
        self.skipped = 0

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
        self._groups.add(CONTROL_GROUP)
        self._tasks = [
            asyncio.ensure_future(self._listen()),
            asyncio.ensure_future(self._send_out()),
            asyncio.ensure_future(self._renew()),
        ]
        await self._join(CONTROL_GROUP)

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
                    self._went_well()
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
            except asyncio.CancelledError:
                raise
            except UNREADABLE:
                self._not_ours()
                await asyncio.sleep(0)
                continue
            except Exception as problem:  # noqa: BLE001
                self._went_wrong(problem)
                await asyncio.sleep(0.25)
                continue
            if not isinstance(message, dict):
                self._not_ours()
                continue
            if message.get("sender") == self._channel:
                continue
            data = unseal(message.get("data"))
            if data is None:
                self._not_ours()
                continue
            for bell in bells_of(data):
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
        """Join the groups again before they expire, and often while the layer is away or came back."""
        expiry = float(getattr(self._layer, "group_expiry", 86_400) or 86_400)
        period = min(expiry / 3, 600.0)
        elapsed = 0.0
        while True:
            step = 0.5 if not self.connected else min(period, 2.0)
            await asyncio.sleep(step)
            elapsed += step
            was_away = not self.connected
            if was_away or elapsed >= period or not await self._still_there():
                elapsed = 0.0
                await self._rejoin()
                if was_away and self.connected:
                    self.on_return()

    async def _still_there(self) -> bool:
        """Whether the layer still knows our membership (a restarted or flushed Redis does not)."""
        connection = getattr(self._layer, "connection", None)
        key = getattr(self._layer, "_group_key", None)
        if connection is None or key is None:
            return True
        try:
            async with asyncio.timeout(2.0):
                redis = connection(self._layer.consistent_hash(CONTROL_GROUP))  # type: ignore[attr-defined]
                known = await redis.zscore(key(CONTROL_GROUP), self._channel) is not None
        except Exception as problem:  # noqa: BLE001
            self._went_wrong(problem)
            return False
        if not known:
            logger.warning("the channel layer forgot us; joining again", extra={"event": "layer_forgot"})
            await self._rejoin()
            self.on_return()
        return True

    async def _rejoin(self) -> None:
        for group in list(self._groups):
            try:
                async with asyncio.timeout(2.0):
                    await self._layer.group_add(group, self._channel)
            except Exception as problem:  # noqa: BLE001
                self._went_wrong(problem)
                return
        self._went_well()

    def _went_well(self) -> None:
        if not self.connected:
            self.connected = True
            logger.warning("the channel layer is back", extra={"event": "layer_back"})

    def _went_wrong(self, problem: Exception) -> None:
        if self.connected:
            self.connected = False
            logger.error(
                "The channel layer does not answer (%s): start Redis, or correct REDIS_URL. Messages are kept, and other "
                "processes find them in the log.",
                type(problem).__name__,
                extra={"event": "layer_lost"},
            )


def addressed(bell: Bell, shards: int) -> Iterable[tuple[str, Bell]]:
    """The groups that a bell goes to, each with its part of it."""
    if isinstance(bell, Published):
        yield from _by_group(bell.messages, Published, shards)
    elif isinstance(bell, Passing):
        yield from _by_group(bell.frames, Passing, shards)
    elif isinstance(bell, (Noticed, Presence)):
        yield shard_group(bell.channel_id, shards), bell
    else:
        yield CONTROL_GROUP, bell


def _by_group(rows: list[Any], make: Callable[[list[Any]], Bell], shards: int) -> Iterable[tuple[str, Bell]]:
    groups: dict[str, list[Any]] = {}
    for row in rows:
        # Inboxes are made while they are written to, so whoever holds the client cannot have asked for their shard.
        inbox = len(row) == 6 and row[1] == INBOX_ROOM
        groups.setdefault(CONTROL_GROUP if inbox else shard_group(row[0], shards), []).append(row)
    for group, part in groups.items():
        yield group, make(part)


def passing(bell: Bell) -> int:
    """How many frames the bell holds that are nowhere else."""
    if isinstance(bell, Passing):
        return len(bell.frames)
    return 1 if isinstance(bell, Noticed) else 0


def weight(bell: Bell) -> int:
    """About the bytes that a bell takes while it waits."""
    if isinstance(bell, Published):
        return sum(_ROW + len(row[5]) for row in bell.messages)
    if isinstance(bell, Passing):
        return sum(_ROW + len(frame) for _, frame in bell.frames)
    return _ROW + (len(bell.frame) if isinstance(bell, Noticed) else 0)


def message_of(bells: list[Bell], sender: str) -> dict[str, Any]:
    """The layer's message; frames that make it too long are left for the log."""
    size = 0
    for bell in bells:
        if isinstance(bell, Published):
            for position, row in enumerate(bell.messages):
                size += len(row[5])
                if size > INLINE_BYTES:
                    bell.messages[position] = (*row[:5], b"")
    return {"type": "bus.bell", "sender": sender, "data": seal(_encoder.encode(bells))}


def bells_of(data: bytes) -> list[Bell]:
    """The bells of a message; those that a process of another version made up are left out, being hints as all are."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        pass
    known: list[Bell] = []
    try:
        for raw in _one_by_one.decode(data):
            with suppress(msgspec.DecodeError):
                known.append(_one.decode(raw))
    except msgspec.DecodeError:
        logger.warning("a bell of another version", extra={"event": "bell_unknown"})
    return known


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
