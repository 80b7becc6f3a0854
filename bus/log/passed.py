"""Ids of messages that are not stored, so that a repeated message on an ephemeral channel is recognised."""

from __future__ import annotations

from threading import Lock

#: How many ids are remembered. With one more, the oldest tenth is forgotten.
REMEMBERED = 10_000


class Passed:
    """Keys of messages (``frames.publish_key``) with their channels. It is bounded, and any thread may use it."""

    def __init__(self) -> None:
        self._channels: dict[str, int] = {}
        self._lock = Lock()

    def admit(self, key: str, channel_id: int) -> int | None:
        """Remember a message. Return None, or the channel id of an earlier message with this key."""
        with self._lock:
            before = self._channels.get(key)
            if before is None:
                self._channels[key] = channel_id
                if len(self._channels) > REMEMBERED:
                    for old in list(self._channels)[: REMEMBERED // 10]:
                        del self._channels[old]
            return before

    def channel_of(self, key: str) -> int | None:
        """Return the channel id of the message with this key, or None."""
        return self._channels.get(key)

    def __len__(self) -> int:
        return len(self._channels)
