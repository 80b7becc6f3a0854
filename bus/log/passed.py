"""The ids of messages that no log keeps: on an ephemeral channel a repeat is recognised by what is remembered here."""

from __future__ import annotations

from threading import Lock

#: Ids that are remembered; with one more the oldest tenth is forgotten.
REMEMBERED = 10_000


class Passed:
    """Keys of messages (``frames.publish_key``), each with the channel that it went to; for any thread, and bounded."""

    def __init__(self) -> None:
        self._channels: dict[str, int] = {}
        self._lock = Lock()

    def admit(self, key: str, channel_id: int) -> int | None:
        """Remember a message; None, or the channel of the one that came with this key before."""
        with self._lock:
            before = self._channels.get(key)
            if before is None:
                self._channels[key] = channel_id
                if len(self._channels) > REMEMBERED:
                    for old in list(self._channels)[: REMEMBERED // 10]:
                        del self._channels[old]
            return before

    def channel_of(self, key: str) -> int | None:
        """The channel of the message that came with this key, if one did."""
        return self._channels.get(key)

    def __len__(self) -> int:
        return len(self._channels)
