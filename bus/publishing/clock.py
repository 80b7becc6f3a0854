"""The time of a message as text, for messages that get no time from the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

_SECOND = 1_000_000_000


class WireClock:
    """Formats the present time as ``models.wire_time`` does, in bytes. It formats each second only once."""

    __slots__ = ("_now", "_second", "_text")

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        self._now = now
        self._second = -1
        self._text = b""

    def stamp(self) -> bytes:
        """Return the present time: ISO 8601, UTC, milliseconds and ``Z``."""
        second, rest = divmod(self._now(), _SECOND)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return b"%b.%03dZ" % (self._text, rest // 1_000_000)
