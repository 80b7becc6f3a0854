"""Whether the time of a question is over. The server's clock counts, since it ends the question."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .errors import ArqonBusError
from .messages import Message, parse_time

if TYPE_CHECKING:
    from .bus import Bus

#: How far the clocks of two servers may differ.
BETWEEN_SERVERS = timedelta(seconds=1)
#: How far the clock of this machine may differ from the server's, where the server's time is not known.
FROM_HERE = timedelta(seconds=60)


class Deadlines:
    """Knows a time that is on the server now, or was a moment ago. So no question counts as over that is still open."""

    def __init__(self) -> None:
        self._server: datetime | None = None
        self._since = 0.0

    async def learn(self, bus: Bus) -> None:
        """Ask the server for its time."""
        try:
            answer = await bus.ping()
        except (ArqonBusError, TimeoutError):
            return
        # The answer was on its way for a while, so the time on the server is later than this.
        self._server, self._since = parse_time(answer.get("timestamp")), time.monotonic()

    def over(self, question: Message) -> bool:
        """Return whether nobody waits for the answer to a question any more."""
        timeout = (question.ask or {}).get("timeout")
        if question.timestamp is None or not isinstance(timeout, (int, float)):
            return False
        ended = question.timestamp + timedelta(seconds=timeout)
        if self._server is None:
            return ended + FROM_HERE < datetime.now(UTC)
        return ended + BETWEEN_SERVERS < self._server + timedelta(seconds=time.monotonic() - self._since)
