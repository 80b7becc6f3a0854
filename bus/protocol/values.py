"""Rules for plain JSON values, such as those of registrations and of command parameters."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from .limits import nesting_within
from .numbers import NUMBER_RULE, out_of_range, unusual

_one = msgspec.json.Decoder(msgspec.Raw)

# Python accepts any character between date and time. Other clients get the sender's time, so here it must be a blank or a T.
_TIME = re.compile(r"[0-9W\-]{7,10}(?:[T ][0-9:.,Z+\-]{2,53})?", re.ASCII)


def wrong_with(data: bytes, depth: int) -> str | None:
    """The reason why a program's JSON text cannot be published, or None. ``depth`` is the deepest allowed nesting."""
    try:
        _one.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return "This is not JSON."
    if not nesting_within(data, depth):
        return f"This nests deeper than {depth} levels."
    found = out_of_range(data) if unusual(data) else None
    return None if found is None else f"{found[:40].decode()} is out of range: {NUMBER_RULE}"


def is_printable(text: object, longest: int) -> bool:
    """Whether ``text`` has 1 to ``longest`` printable characters, which ids and types must have."""
    return isinstance(text, str) and 1 <= len(text) <= longest and text.isprintable()


def seq_of(position: Any) -> Any:
    """A seq from text, as in a query string. Any other value is returned unchanged."""
    if isinstance(position, str) and len(position) < 19 and position.isascii() and position.isdigit():
        return int(position)
    return position


def holds_nul(value: Any) -> bool:
    """Whether any text in a JSON value holds U+0000, which PostgreSQL does not store."""
    return holds_text(value, "\x00")


def holds_text(value: Any, text: str) -> bool:
    """Whether any text or key in a JSON value holds ``text``."""
    if isinstance(value, str):
        return text in value
    if isinstance(value, dict):
        return any(text in key or holds_text(item, text) for key, item in value.items())
    return isinstance(value, list) and any(holds_text(item, text) for item in value)


def valid_time(text: str) -> str | None:
    """The sender's own time, or None if it is no ISO time. A wrong format is no error."""
    if _TIME.fullmatch(text) is None:
        return None
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return None
    return text


def moment_of(text: str) -> datetime | None:
    """The time of an ISO text with a zone, or None for another text."""
    if _TIME.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
