"""The reader's side of streamed messages: texts that grow, whatever arrives in which order.

:class:`Growth` follows the reader's rule. Part ``have + 1`` is added, an older one is ignored, a snapshot replaces. So a reader
sees only beginnings of the whole text.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from .errors import StreamEnded
from .owning import OPEN

#: The largest number of parts that may wait for an earlier one. A snapshot or the end replaces more.
MOST_EARLY = 4096


#: A mark among the pieces of a feed: the earlier pieces were thrown away.
RESET = object()


class _Text:
    """A text that only grows. Other threads may read it."""

    def __init__(self, text: str = "") -> None:
        self.pieces = [text] if text else []
        #: The text of so many first pieces.
        self._read = (0, "")

    def read(self) -> str:
        """Return the text so far."""
        count = len(self.pieces)
        known, text = self._read
        if known < count:
            text += "".join(self.pieces[known:count])
            self._read = (count, text)
        return text


class Growth:
    """What a reader has of one streamed message: its text or its parts, and its state."""

    def __init__(self, of: str, address: str, *, live: bool = True) -> None:
        self.of = of
        self.address = address
        #: Whether parts can arrive. A message of a page of history does not grow.
        self.live = live
        #: Whether a look at the history is planned, since a part is missing.
        self.healing = False
        #: Seq and sender of the opening message, if they are known.
        self.seq: int | None = None
        self.sender: str | None = None
        self.mode = "text"
        self.state = OPEN
        self.attempt = 1
        self.have = 0
        self.parts: list[dict[str, Any]] = []
        #: Seq and payload of the end, and the steers that the owner did not take.
        self.end_seq: int | None = None
        self.end_payload: dict[str, Any] = {}
        self.untaken: tuple[str, ...] = ()
        #: The reason why the rest will not arrive, such as a withdrawn right.
        self.error: Exception | None = None
        self._text = _Text()
        #: Parts that arrived before an earlier one.
        self._early: dict[int, Any] = {}
        self._feeds: list[deque[Any]] = []
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def text(self) -> str:
        """The text so far."""
        return self._text.read()

    @property
    def over(self) -> bool:
        """Whether nothing more arrives."""
        return self.state != OPEN or self.error is not None or not self.live

    @property
    def behind(self) -> bool:
        """Whether an earlier part is missing."""
        return bool(self._early)

    # --- arriving frames ------------------------------------------------------------------------------------------------

    def append(self, frame: dict[str, Any]) -> None:
        """Handle a part or a snapshot."""
        if self.state != OPEN:
            return
        if frame.get("snapshot"):
            self._snapshot(frame)
            return
        number = frame.get("n")
        piece = frame["part"] if "part" in frame else frame.get("delta")
        if not isinstance(number, int) or piece is None or number <= self.have:
            return
        if "part" in frame:
            self.mode = "parts"
        self._early[number] = piece
        if number != self.have + 1:
            if len(self._early) > MOST_EARLY:
                self._early.clear()
            return
        self._take_early()
        self._changed()

    def _take_early(self) -> None:
        while (piece := self._early.pop(self.have + 1, None)) is not None:
            self.have += 1
            if self.mode == "parts":
                self.parts.append(piece)
            else:
                self._text.pieces.append(piece)
            self._feed(piece)

    def _snapshot(self, frame: dict[str, Any]) -> None:
        attempt, upto = frame.get("attempt", self.attempt), frame.get("upto", 0)
        if attempt < self.attempt or (attempt == self.attempt and upto <= self.have):
            return  # We already have more.
        if attempt > self.attempt:
            self._early.clear()  # Parts of another attempt do not fit.
        self.attempt = attempt
        self._replace(frame, upto, frame.get("text"))

    def end(self, frame: dict[str, Any]) -> None:
        """Handle the end, which has the whole text or all parts."""
        if self.state != OPEN:
            return
        told = frame.get("stream") or {}
        self.end_seq = frame.get("seq")
        payload, untaken = frame.get("payload"), frame.get("untaken")
        self.end_payload = payload if isinstance(payload, dict) else {}
        self.untaken = tuple(untaken) if isinstance(untaken, list) else ()
        self._early.clear()
        self.state = str(told.get("state") or "complete")
        self._replace(
            {"mode": told.get("mode", self.mode), **frame}, told.get("parts", self.have), frame.get("message")
        )

    def folded(self, frame: dict[str, Any]) -> None:
        """Handle the message as the history has it: opening, text and state in one."""
        told = frame["stream"]
        count = told.get("parts", 0)
        if self.state != OPEN or (told.get("state", OPEN) == OPEN and count < self.have):
            return
        if "state" not in told:
            self.mode = str(told.get("mode") or "text")
            return  # The opening alone.
        payload = frame.get("end_payload")
        self.end_seq = told.get("end_seq")
        self.end_payload = payload if isinstance(payload, dict) else {}
        self.state = str(told["state"])
        self._replace({"mode": told.get("mode"), **frame}, count, frame.get("message"))

    def _replace(self, frame: dict[str, Any], have: int, text: Any) -> None:
        """Set the whole content. Those who follow it get the rest, or a mark if it does not begin with what they have."""
        self.have = have
        self.mode = "parts" if frame.get("mode") == "parts" or isinstance(frame.get("parts"), list) else "text"
        for number in [number for number in self._early if number <= have]:
            del self._early[number]
        before, known = self.parts, self.text
        rest: list[Any]
        if self.mode == "parts":
            self.parts = list(frame.get("parts") or [])
            fits = self.parts[: len(before)] == before
            rest = self.parts[len(before) :]
        else:
            now = str(text or "")
            self._text = _Text(now)
            fits = now.startswith(known)
            rest = [now[len(known) :]] if len(now) > len(known) else []
        for piece in rest if fits else [RESET]:
            self._feed(piece)
        self._take_early()
        self._changed()

    def fail(self, error: Exception) -> None:
        """Stop to wait for more."""
        if not self.over:
            self.error = error
            self._changed()

    # --- following ------------------------------------------------------------------------------------------------------

    def feed(self) -> deque[Any]:
        """Return a queue that gets everything so far, and then each piece."""
        queue: deque[Any] = deque(self.parts)
        if self.text:
            queue.append(self.text)
        self._feeds.append(queue)
        return queue

    def unfeed(self, queue: deque[Any]) -> None:
        """Stop to fill a queue of :meth:`feed`."""
        self._feeds = [other for other in self._feeds if other is not queue]

    def _feed(self, piece: Any) -> None:
        for queue in self._feeds:
            queue.append(piece)

    async def changed(self) -> None:
        """Wait until something arrives."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _changed(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Growing:
    """The open streamed messages of the channels that a client hears."""

    def __init__(self) -> None:
        self._open: dict[str, Growth] = {}

    def __len__(self) -> int:
        return len(self._open)

    def get(self, of: str) -> Growth | None:
        """Return an open message."""
        return self._open.get(of)

    def meet(self, of: str, address: str) -> Growth:
        """Return an open message, perhaps a new one."""
        growth = self._open.get(of)
        if growth is None:
            growth = self._open[of] = Growth(of, address)
        return growth

    def opened(self, frame: dict[str, Any], address: str) -> Growth:
        """Return the message of an opening frame, which may be a folded one."""
        growth = self.meet(str(frame.get("id")), address)
        growth.seq = frame.get("seq")
        growth.sender = frame.get("from")
        growth.folded(frame)
        self._settle(growth)
        return growth

    def append(self, frame: dict[str, Any], address: str) -> Growth:
        """Handle a part or a snapshot. It may come before its opening."""
        growth = self.meet(frame["of"], address)
        growth.append(frame)
        if isinstance(frame.get("of_seq"), int):
            growth.seq, growth.sender = frame["of_seq"], frame.get("from")
        return growth

    def ended(self, frame: dict[str, Any], address: str) -> Growth:
        """Handle the end of a message. Returns the message, also if it was not known."""
        of = str(frame.get("of"))
        growth = self._open.pop(of, None) or Growth(of, address)
        growth.seq = frame.get("of_seq", growth.seq)
        growth.end(frame)
        return growth

    def refilled(self, growth: Growth, frame: dict[str, Any] | None) -> None:
        """Handle the folded message of the history. None means that the log does not have it any more."""
        if frame is None:
            growth.fail(StreamEnded(f"The log does not have the message {growth.of} any more."))
        else:
            growth.folded(frame)
        self._settle(growth)

    def _settle(self, growth: Growth) -> None:
        if growth.over:
            self._open.pop(growth.of, None)

    def of(self, address: str) -> list[Growth]:
        """Return the open messages of a channel."""
        return [growth for growth in self._open.values() if growth.address == address]

    def leave(self, address: str, error: Exception) -> None:
        """Forget the open messages of a channel whose parts do not arrive any more."""
        for growth in self.of(address):
            growth.fail(error)
            del self._open[growth.of]

    def fail(self, error: Exception) -> None:
        """Forget all open messages."""
        for address in {growth.address for growth in self._open.values()}:
            self.leave(address, error)
