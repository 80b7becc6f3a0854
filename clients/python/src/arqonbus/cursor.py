"""The place of a subscription in a log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Cursor:
    """The place of a subscription in one log."""

    last: int | None = None
    #: The epoch of the log. None if it is not known yet.
    epoch: str | None = None
    #: The highest seq of the messages that were not stored.
    head: int = 0
    lagging: bool = False
    gap: bool = False
    #: The number of resets. A page of history that was requested before a reset is not used after it.
    generation: int = 0
