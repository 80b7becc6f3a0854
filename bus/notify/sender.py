"""Sends the notifications of this process to the others, in their order and in bounded memory."""

from __future__ import annotations

import asyncio

import msgspec

from .health import LayerHealth
from .layer import LayerChannel
from .messages import (
    INLINE_BYTES,
    CommittedMessage,
    Notification,
    Published,
    StreamParts,
    StreamSignal,
    by_group,
    size_of,
    to_layer,
    unrecoverable_frames,
)
from .queue import SendQueue

#: Committed messages without their frames that one notification announces.
ANNOUNCED_TOGETHER = 500


class Sender:
    """The queue of notifications, and the loop that empties it into the layer."""

    def __init__(self, channel: LayerChannel, health: LayerHealth, *, shards: int, limit: int) -> None:
        self._channel = channel
        self._health = health
        self._shards = shards
        self._queue: SendQueue[Notification] = SendQueue(limit, INLINE_BYTES)
        # The newest message of each log that was committed while the queue was full, without its frame.
        self._newest: dict[int, CommittedMessage] = {}
        self._wake = asyncio.Event()
        self._sending = False
        #: Ephemeral frames and presence notices that were not sent; they are in no log.
        self.skipped = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the layer."""
        return self._queue.bytes

    @property
    def full(self) -> bool:
        """Whether as many bytes wait as may."""
        return self._queue.full

    @property
    def idle(self) -> bool:
        """Whether everything is sent."""
        return not (self._queue or self._newest or self._sending)

    def send(self, notification: Notification) -> None:
        """Put a notification into the queue. While that is full, frames are left out, and ephemeral ones are skipped."""
        for group, part in by_group(notification, self._shards):
            self._put(group, part)
        self._wake.set()

    def _put(self, group: str, notification: Notification) -> None:
        if self._queue.full:
            if isinstance(notification, Published):
                for message in notification.messages:
                    self._newest[message.channel_id] = message._replace(frame=b"")
                return
            if frames := unrecoverable_frames(notification):
                self.skipped += frames
                return
            if isinstance(notification, StreamParts):
                return  # A receiver finds out by the next part, or by its next look.
            if isinstance(notification, StreamSignal):
                notification = msgspec.structs.replace(notification, frame=b"")
        # The others are few and small: changes of permissions, of channels, of connections.
        self._queue.put(group, notification, size_of(notification))

    def _announce_newest(self) -> None:
        newest, self._newest = list(self._newest.values()), {}
        for start in range(0, len(newest), ANNOUNCED_TOGETHER):
            for group, part in by_group(Published(newest[start : start + ANNOUNCED_TOGETHER]), self._shards):
                self._queue.put(group, part, size_of(part))

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._newest:
                if not self._queue:
                    self._announce_newest()
                batch = self._queue.next_batch()
                self._sending = True
                try:
                    await self._channel.send(batch.group, to_layer(batch.items, self._channel.name))
                except Exception as problem:  # noqa: BLE001 - redis, OS and layer errors of many classes
                    self._health.failed(problem)
                    self.skipped += sum(map(unrecoverable_frames, (*batch.items, *self._queue.clear())))
                    self._newest.clear()
                finally:
                    self._sending = False
