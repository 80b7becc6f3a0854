"""What a connection sends besides usual messages, counted: pings, pongs, parts of messages, and messages that never end.

The limits of messages see none of it. Each such frame costs the server's parser time, a ping an answer, a part an entry in a
list, and an unfinished message its bytes. The count is the same whichever reader a connection has.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..protocol.limits import TokenBucket

#: Pings, pongs and parts of messages that are looked at in a second, and at once, from a client that has registered.
PER_SECOND, AT_ONCE = 500.0, 2000.0
#: The same from one that has not.
STRANGERS_PER_SECOND, STRANGERS_AT_ONCE = 20.0, 100.0
#: Parts of one message. The server keeps an entry for each, also for empty ones.
PARTS = 8192
#: Bytes of an unfinished message that each connection may have waiting before it has registered.
FREE = 16 * 1024

FLOOD = "Too many pings or parts of messages."
UNFINISHED = "Unfinished messages of clients that have not registered take too much memory. Register first."


class Allowance:
    """Bytes that the unfinished messages of all strangers may take together, above what each has for itself."""

    __slots__ = ("left",)

    def __init__(self, most: int) -> None:
        self.left = most

    def take(self, size: int) -> bool:
        """Take ``size`` bytes of it, if they are there."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.left += size


class OddFrames:
    """The count of one connection. ``known`` says whether its client has registered; what is too much is a text, else ``""``."""

    __slots__ = ("_allowance", "_borrowed", "_bucket", "_held", "_known", "_parts")

    def __init__(self, known: Callable[[], bool], allowance: Allowance | None) -> None:
        self._known = known() or known
        self._allowance = allowance
        self._bucket = self._made()
        self._parts = self._held = self._borrowed = 0

    def _made(self) -> TokenBucket:
        rate, burst = (PER_SECOND, AT_ONCE) if self._known is True else (STRANGERS_PER_SECOND, STRANGERS_AT_ONCE)
        return TokenBucket(rate, burst, time.monotonic())

    def _has_registered(self) -> bool:
        known = self._known
        if known is True:
            return True
        if not known():
            return False
        self._known = True
        self._bucket = self._made()
        self.finished()
        return True

    def knows_by(self, known: Callable[[], bool]) -> None:
        """Who tells from now on whether the client has registered."""
        if self._known is not True:
            self._known = known

    def frame(self, *, part: bool, ends: bool) -> str:
        """A control frame, or (``part``) a part of a message, perhaps the one that ``ends`` it."""
        self._parts = self._parts + 1 if part and not ends else 0
        if self._parts > PARTS:
            return FLOOD
        now = time.monotonic()
        # Whether it has registered is asked when it matters, and not for each frame.
        if self._bucket.take(1.0, now) and (not self._has_registered() or self._bucket.take(1.0, now)):
            return FLOOD
        return ""

    def waits(self, size: int) -> str:
        """``size`` more bytes of an unfinished message have come."""
        self._held += size
        wanted = self._held - FREE - self._borrowed
        if wanted <= 0 or self._allowance is None or self._has_registered():
            return ""
        if not self._allowance.take(wanted):
            return UNFINISHED
        self._borrowed += wanted
        return ""

    def finished(self) -> None:
        """The message is complete, or the connection over."""
        self._held = 0
        if self._borrowed and self._allowance is not None:
            self._allowance.give(self._borrowed)
            self._borrowed = 0
