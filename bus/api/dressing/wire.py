"""The frames of the socket as events."""

from __future__ import annotations

import msgspec

from ...protocol.errors import BusError
from .content import Dressing, Event, frames


class Parts(Dressing):
    """The frames themselves: ``snapshot``, ``append`` and ``stream_end``. An event's id is the number of its newest part."""

    def frame(self, data: bytes) -> list[Event]:
        """The frame as one event; nothing for a part that came before."""
        frame = frames.decode(data)
        if frame.type == "stream_end":
            self.over = True
            return [Event(data, str(frame.stream.parts), "stream_end")]
        if frame.snapshot:
            if frame.attempt == self._attempt and frame.upto < self._have:
                return []
            self._attempt, self._have = frame.attempt, frame.upto
            return [Event(data, str(frame.upto), "snapshot")]
        if frame.n <= self._have:
            return []
        self._have = frame.n
        return [Event(data, str(frame.n), "append")]

    def fails(self, error: BusError) -> None:
        """An event ``closed``, as in the event stream of a channel."""
        self._events.append(Event(msgspec.json.encode({"error": error.as_dict()}), "", "closed"))
