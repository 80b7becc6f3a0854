"""Rules for plain JSON values, wherever they stand: in registrations and in the parameters of commands."""

from __future__ import annotations

from typing import Any


def seq_of(position: Any) -> Any:
    """A seq that was written as text, as the query string does; anything else as it is."""
    if isinstance(position, str) and len(position) < 19 and position.isascii() and position.isdigit():
        return int(position)
    return position


def holds_nul(value: Any) -> bool:
    """Whether a text anywhere in a JSON value holds U+0000, which databases do not take."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or holds_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(holds_nul, value))
