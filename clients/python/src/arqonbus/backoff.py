"""The pause before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Growing, jittered pauses in seconds. A ``retry_after`` of the server sets the minimum; the jitter is added."""

    first: float = 0.25
    most: float = 15.0
    factor: float = 2.0
    jitter: Callable[[], float] = field(default=random.random, repr=False)
    attempts: int = 0

    def pause(self, retry_after: float | None = None) -> float:
        """Return the pause before the next attempt. Each call makes the next pause longer.

        Half of the pause is random, so that the clients of a failed server do not reconnect all at once.
        """
        step = min(self.most, self.first * self.factor ** min(self.attempts, 32))
        self.attempts += 1
        if retry_after is not None:
            # The server spreads its clients itself. We only add a tenth of a second of jitter.
            return max(0.0, retry_after) + 0.1 * self.jitter()
        return step * (0.5 + 0.5 * self.jitter())

    def reset(self) -> None:
        """Start again with a short pause, after a connection succeeded."""
        self.attempts = 0
