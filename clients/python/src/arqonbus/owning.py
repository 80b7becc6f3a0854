"""The bookkeeping of a stream's owner: which parts are written, sent and kept. Pure: it waits for nothing and reads no clock.

Parts are numbered 1, 2, 3 … and stay here until the server has kept them. After a lost connection or a refusal, everything
that is not kept is sent again. The server counts a repeated number as done, so each part is kept once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

OPEN, COMPLETE, ABORTED, STOPPED = "open", "complete", "aborted", "stopped"


class PartsLost(Exception):
    """The server has fewer parts than it had acknowledged, or more than were written. A failover of its database can do that."""


class Owning:
    """The parts of one stream that this process owns."""

    def __init__(self, of: str, window: int) -> None:
        if window < 1:
            raise ValueError("`window` must be 1 or more.")
        self.of = of
        self._window = window
        #: The proof of an owner that adopted the stream.
        self.token: str | None = None
        self.attempt = 1
        #: The number of the last part that the server has kept, and of the last one that was written.
        self.have = 0
        self.last = 0
        #: The parts that are not known to be kept: the numbers after ``have``.
        self._parts: deque[dict[str, Any]] = deque()
        #: The number of the last part that was sent, since the last return to an earlier one.
        self._sent = 0
        #: The ``have`` of the last refusal for a gap. Parts that were on the way are refused with the same number.
        self._gap: int | None = None
        self._end: dict[str, Any] | None = None
        self._end_sent = False
        self.state = OPEN
        self.stopping = False

    @property
    def key(self) -> str:
        """The name of this owner. Another one of the same stream, even in this process, has another attempt."""
        return self.of if self.attempt == 1 else f"{self.of}#{self.attempt}"

    @property
    def room(self) -> bool:
        """Whether another part may be written before the server has kept one."""
        return self.last - self.have < self._window

    @property
    def ending(self) -> bool:
        """Whether the end is written."""
        return self._end is not None

    @property
    def end(self) -> dict[str, Any] | None:
        """The frame of the end, when it is written. It may have a last part."""
        return self._end

    # --- written by the owner -----------------------------------------------------------------------------------------

    def begin(self, have: int, attempt: int, token: str | None = None) -> None:
        """Start after the part ``have``, as the owner of this attempt."""
        self.have = self.last = self._sent = have
        self.attempt = attempt
        self.token = token

    def add(self, content: dict[str, Any], took: list[str] | None = None) -> int:
        """Write a part: ``{"delta": …}`` or ``{"part": …}``. Returns its number."""
        self.last += 1
        self._parts.append(self._frame(self.last, content, took))
        return self.last

    def finish(
        self,
        state: str,
        payload: dict[str, Any] | None = None,
        content: dict[str, Any] | None = None,
        took: list[str] | None = None,
    ) -> None:
        """Write the end, perhaps together with a last part."""
        number = self.last + 1 if content else self.last
        frame = self._frame(number, content or {}, took)
        frame["id"] = f"{self.key}_end"
        frame["end"] = state
        if payload is not None:
            frame["payload"] = payload
        self._end, self._end_sent = frame, False

    def _frame(self, number: int, content: dict[str, Any], took: list[str] | None) -> dict[str, Any]:
        frame = {"type": "append", "of": self.of, "n": number, **content, "id": f"{self.key}/{number}", "ack": True}
        if took:
            frame["took"] = took
        if self.token is not None:
            frame["token"] = self.token
        return frame

    # --- sending ------------------------------------------------------------------------------------------------------

    def due(self) -> dict[str, Any] | None:
        """Return the next frame to send, which then counts as sent. None if there is nothing to send."""
        if self._sent < self.last:
            self._sent += 1
            return self._parts[self._sent - self.have - 1]
        if self._end is not None and not self._end_sent:
            self._end_sent = True
            return self._end
        return None

    def again(self) -> None:
        """Send everything that is not kept once more: after a new connection, or after a refusal."""
        self._sent = self.have
        self._end_sent = False
        self._gap = self.have

    # --- told by the server -------------------------------------------------------------------------------------------

    def kept(self, have: int) -> list[dict[str, Any]]:
        """Forget the parts that the server has kept, and return them. A late answer with a smaller number changes nothing."""
        frames = []
        while self.have < have and self._parts:
            frames.append(self._parts.popleft())
            self.have += 1
        self._sent = max(self._sent, self.have)
        return frames

    def returned(self, have: int) -> list[dict[str, Any]]:
        """Continue after a new connection, when the server has named its last part. Returns the parts that it has kept.

        Raises :class:`PartsLost`.
        """
        self._compare(have)
        frames = self.kept(have)
        self.again()
        return frames

    def gap(self, have: int) -> list[dict[str, Any]]:
        """Go back after a part arrived out of order. Returns the parts that are kept. Raises :class:`PartsLost`."""
        self._compare(have)
        if have == self._gap:
            return []
        frames = self.kept(have)
        self.again()
        return frames

    def _compare(self, have: int) -> None:
        # With more parts than we wrote, every number of ours would be refused for ever.
        if not self.have <= have <= self.last:
            raise PartsLost

    def wait(self) -> None:
        """Prepare for a pause before :meth:`again`: the parts on the way are refused too, and that means nothing new."""
        self._gap = self.have

    def drop(self, number: int) -> None:
        """Throw away the parts from ``number`` on, and the end. The server refuses them for good."""
        while self.last >= max(number, self.have + 1):
            self._parts.pop()
            self.last -= 1
        self._sent = min(self._sent, self.last)
        self._end, self._end_sent = None, False
