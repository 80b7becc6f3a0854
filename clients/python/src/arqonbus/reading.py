"""Decode frames. An unreadable frame is replaced, so that it never ends a connection."""

from __future__ import annotations

import json
import re
from typing import Any

# The keys with plain values at the beginning of a frame of the server.
_STRING = r'"(?:[^"\\]|\\.)*"'
_HEAD = re.compile(rf"\{{(?:\s*{_STRING}\s*:\s*(?:{_STRING}|-?[0-9]{{1,20}}|true|false|null)\s*,)+")


class Unreadable(Exception):
    """A frame cannot be read. ``instead`` is a frame that replaces it, if possible."""

    def __init__(self, text: str, instead: dict[str, Any] | None) -> None:
        self.instead = instead
        super().__init__(text)


def decode(data: str | bytes) -> Any:
    """Decode a frame. Raises :class:`Unreadable` for a frame that Python cannot read, such as a number of 5,000 digits."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise Unreadable(str(problem)[:200], _salvaged(data)) from None


def _salvaged(data: str | bytes) -> dict[str, Any] | None:
    """Return a replacement of an unreadable frame: its message without content, or an error for its request."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    head = _HEAD.match(text)
    if head is None:
        return None
    try:
        told: dict[str, Any] = json.loads(head[0].rstrip()[:-1] + "}")
    except ValueError:
        return None
    if told.get("request_id") is not None:
        error = {"code": "INTERNAL_ERROR", "number": 500, "message": "The answer cannot be read."}
        return {"type": "error", "request_id": told["request_id"], "error": error}
    return {**told, "payload": {}, "unreadable": True} if "seq" in told else None
