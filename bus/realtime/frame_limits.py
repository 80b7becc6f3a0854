"""Limits for control frames, fragments and unfinished messages of one connection.

The limits of messages (``bus.protocol.limits``) do not see these frames. Each control frame costs the server's parser time, a
ping costs an answer, a fragment an entry in a list, and an unfinished message its bytes. Every reader counts them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..protocol.limits import TokenBucket

#: Control frames and fragments that a registered client may send: per second, and in one burst.
PER_SECOND, BURST = 500.0, 2000.0
#: The same for a client that has not registered.
UNREGISTERED_PER_SECOND, UNREGISTERED_BURST = 20.0, 100.0
#: Fragments of one message. The server keeps an entry for each of them, also for an empty one.
FRAGMENTS = 8192
#: Bytes of an unfinished message that each unregistered client may have without drawing on the shared budget.
OWN_BYTES = 16 * 1024

FLOOD = "Too many pings or parts of messages. Send fewer."
UNFINISHED = "Unfinished messages of clients that have not registered take too much memory. Register first."


class FragmentBudget:
    """Bytes that the unfinished messages of all unregistered clients of a process share, beyond each client's own bytes."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = size

    def reserve(self, size: int) -> bool:
        """Reserve ``size`` bytes. Returns False, and reserves nothing, when fewer are left."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def release(self, size: int) -> None:
        """Return ``size`` reserved bytes."""
        self.left += size


class FrameLimits:
    """The counters of one connection. A method returns the reason when a limit is exceeded, else an empty text.

    ``is_registered`` says whether the client has registered. Without a ``budget`` unfinished messages are not limited.
    """

    __slots__ = ("_bucket", "_budget", "_fragments", "_is_registered", "_reserved", "_unfinished")

    def __init__(self, is_registered: Callable[[], bool], budget: FragmentBudget | None) -> None:
        # True once the client has registered: the answer does not change again.
        self._is_registered = is_registered() or is_registered
        self._budget = budget
        self._bucket = self._new_bucket()
        self._fragments = self._unfinished = self._reserved = 0

    def _new_bucket(self) -> TokenBucket:
        registered = self._is_registered is True
        rate, burst = (PER_SECOND, BURST) if registered else (UNREGISTERED_PER_SECOND, UNREGISTERED_BURST)
        return TokenBucket(rate, burst, time.monotonic())

    def _registered(self) -> bool:
        is_registered = self._is_registered
        if is_registered is True:
            return True
        if not is_registered():
            return False
        self._is_registered = True
        self._bucket = self._new_bucket()
        self.message_ended()
        return True

    def ask_registered(self, is_registered: Callable[[], bool]) -> None:
        """Ask ``is_registered`` from now on."""
        if self._is_registered is not True:
            self._is_registered = is_registered

    def count(self, *, fragment: bool, final: bool) -> str:
        """Count a control frame, or a ``fragment`` of a message; ``final`` marks a message's last one."""
        self._fragments = self._fragments + 1 if fragment and not final else 0
        if self._fragments > FRAGMENTS:
            return FLOOD
        now = time.monotonic()
        # Whether the client has registered is asked at the limit only, not for each frame.
        if self._bucket.take(1.0, now) and (not self._registered() or self._bucket.take(1.0, now)):
            return FLOOD
        return ""

    def hold(self, size: int) -> str:
        """Count ``size`` more bytes of an unfinished message."""
        self._unfinished += size
        missing = self._unfinished - OWN_BYTES - self._reserved
        if missing <= 0 or self._budget is None or self._registered():
            return ""
        if not self._budget.reserve(missing):
            return UNFINISHED
        self._reserved += missing
        return ""

    def message_ended(self) -> None:
        """The message is complete, or the connection has ended: return what was reserved."""
        self._unfinished = 0
        if self._reserved and self._budget is not None:
            self._budget.release(self._reserved)
            self._reserved = 0
