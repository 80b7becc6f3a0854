"""Sends the notifications of this process over one link, in their order and in bounded memory."""

from __future__ import annotations

import asyncio

import msgspec

from .health import LinkHealth
from .link import Link
from .messages import (
    INLINE_BYTES,
    CommittedMessage,
    Notification,
    Published,
    StreamParts,
    StreamSignal,
    size_of,
    to_layer,
    unrecoverable_frames,
)
from .queue import SendQueue
from .topics import by_topic

#: Committed messages without their frames that one notification announces.
ANNOUNCED_TOGETHER = 500


class Sender:
    """The queue of notifications, and the loop that empties it into the link."""

    def __init__(self, link: Link, health: LinkHealth, *, limit: int) -> None:
        self._link = link
        self._health = health
        self._queue: SendQueue[Notification] = SendQueue(limit, INLINE_BYTES)
        # The newest message of each log that was committed while the queue was full, without its frame.
        self._newest: dict[int, CommittedMessage] = {}
        self._wake = asyncio.Event()
        self._sending = False
        #: Ephemeral frames and presence notices that were not sent; they are in no log.
        self.skipped = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the link."""
        return self._queue.bytes

    @property
    def full(self) -> bool:
        """Whether as many bytes wait as may."""
        return self._queue.full

    @property
    def idle(self) -> bool:
        """Whether everything is sent."""
        return not (self._queue or self._newest or self._sending)

    def send(self, topic: str, notification: Notification, *, despite_full: bool = False) -> None:
        """Put a notification into the queue. While that is full, frames are left out, and ephemeral ones are skipped.

        ``despite_full`` puts it in whole.
        """
        # What still goes into a full queue is small: changes of permissions, of channels, of connections.
        fitting = self._without_frames(notification) if self._queue.full and not despite_full else notification
        if fitting is not None:
            self._queue.put(topic, fitting, size_of(fitting))
        self._wake.set()

    def _without_frames(self, notification: Notification) -> Notification | None:
        """What is left of a notification while the queue is full; None for one that is noted or counted instead."""
        if isinstance(notification, Published):
            for message in notification.messages:
                self._newest[message.channel_id] = message._replace(frame=b"")
            return None
        if frames := unrecoverable_frames(notification):
            self.skipped += frames
            return None
        if isinstance(notification, StreamParts):
            return None  # A receiver finds out by the next part, or by its next look.
        if isinstance(notification, StreamSignal):
            return msgspec.structs.replace(notification, frame=b"")
        return notification

    def _announce_newest(self) -> None:
        newest, self._newest = list(self._newest.values()), {}
        for start in range(0, len(newest), ANNOUNCED_TOGETHER):
            for topic, part in by_topic(Published(newest[start : start + ANNOUNCED_TOGETHER])):
                self._queue.put(topic, part, size_of(part))

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue or self._newest:
                if not self._queue:
                    self._announce_newest()
                batches = self._queue.next_batches()
                self._sending = True
                try:
                    await self._link.send([(topic, to_layer(items, self._link.name)) for topic, items in batches])
                except Exception as problem:  # noqa: BLE001 - redis, OS and layer errors of many classes
                    self._health.failed(problem)
                    lost = [item for batch in batches for item in batch.items] + self._queue.clear()
                    self.skipped += sum(map(unrecoverable_frames, lost))
                    self._newest.clear()
                finally:
                    self._sending = False
