"""The streamed messages that a client writes, by the names of their owners."""

from __future__ import annotations

from typing import Any

from . import errors
from .owner import Owner


class Streams:
    """The open streams that a client owns."""

    def __init__(self) -> None:
        self._open: dict[str, Owner] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: Owner) -> None:
        """Add an open stream. It gets the answers to its parts, and the notices to their owner."""
        self._open[stream._owning.key] = stream

    def remove(self, stream: Owner) -> None:
        """Remove a stream that is over."""
        if self._open.get(stream._owning.key) is stream:
            del self._open[stream._owning.key]

    def answered(self, request_id: str, frame: dict[str, Any]) -> None:
        """Handle an answer without a waiting request: the one to a part or to an end."""
        # The id of a stream may itself have a slash.
        stream = self._open.get(request_id.removesuffix("_end")) if request_id.endswith("_end") else None
        number = ""
        if stream is None:
            key, _, number = request_id.rpartition("/")
            stream = self._open.get(key)
        if stream is None:
            return
        if frame.get("type") == "error":
            error = frame.get("error")
            last = int(number) if number.isdigit() else stream._owning.last + 1
            stream._refused(errors.from_error(error if isinstance(error, dict) else {}), last)
        else:
            stream._told(frame)

    def notice(self, payload: dict[str, Any]) -> bool:
        """Handle a notice of the server. Returns whether it was for the owner of a stream."""
        if payload.get("event") not in ("stop_requested", "steer"):
            return False
        for stream in list(self._open.values()):
            if stream.of == payload.get("of"):
                stream._notice(payload)
        return True

    def back(self) -> None:
        """Continue all streams on a new connection."""
        for stream in list(self._open.values()):
            stream._back()

    def again(self) -> None:
        """Send again what is not kept, after the server refused frames without their names."""
        for stream in list(self._open.values()):
            stream._again()

    def fail(self, error: Exception) -> None:
        """End all streams."""
        for stream in list(self._open.values()):
            stream._fail(error)
            self.remove(stream)
