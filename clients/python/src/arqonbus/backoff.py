"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Growing pauses with jitter, in seconds. A server that says ``retry_after`` is obeyed; the jitter comes on top."""

    first: float = 0.25
    most: float = 15.0
    factor: float = 2.0
    jitter: Callable[[], float] = field(default=random.random, repr=False)
    attempts: int = 0

    def pause(self, retry_after: float | None = None) -> float:
        """The pause before the next attempt; each call makes the following one longer.

        Half of the pause is random, so that the clients of a server that fell do not come back as one.
        """
        step = min(self.most, self.first * self.factor ** min(self.attempts, 32))
        self.attempts += 1
        if retry_after is not None:
            # The server spreads its clients itself; only the spread within a tenth of a second is ours.
            return max(0.0, retry_after) + 0.1 * self.jitter()
        return step * (0.5 + 0.5 * self.jitter())

    def reset(self) -> None:
        """Connected: the next break begins with a short pause again."""
        self.attempts = 0
