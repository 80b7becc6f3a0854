"""The faults of a frame, reported in one error with the frame's own id."""

from __future__ import annotations

from typing import Any

from .errors import BusError, ErrorCode


class Faults:
    """Collects every fault of one frame, so that a client gets them in one error."""

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []

    def add(self, field: str, message: str) -> None:
        """Note that ``field`` is wrong; ``message`` says what it should be."""
        self.items.append({"field": field, "message": message})


class FrameError(BusError):
    """A refused frame. ``request_id`` is the frame's own id, or None if it has no readable id."""

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        details: list[Any] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, details, retry_after)
        self.request_id = request_id


def shortened(problem: Exception) -> str:
    """The text of a decoder's error, cut to 200 characters for the client."""
    return str(problem)[:200]
