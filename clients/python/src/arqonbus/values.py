"""Encode frames, and refuse values that JSON readers cannot read. So no publish fails with an unknown outcome for that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .errors import Unsendable

#: The maximum levels of objects and lists, for a server that does not name its limit.
DEPTH = 32
#: The whole numbers that fit into 64 bits.
SMALLEST, LARGEST = -(2**63), 2**64 - 1
_LONG_NUMBER = re.compile(r"[0-9]{19}")


def encode(frame: dict[str, Any], most: int = DEPTH) -> str:
    """Encode a frame of at most so many levels.

    Raises ``Unsendable`` for values that JSON or the server does not accept, ``TypeError`` for values that are not JSON.
    """
    try:
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except UnicodeEncodeError as problem:
        odd = problem.object[problem.start]
        raise Unsendable(f"A text contains half a character ({odd!a}), which UTF-8 cannot encode.") from None
    except RecursionError:
        raise _too_deep(most) from None
    except ValueError as problem:
        raise Unsendable(f"JSON cannot encode a value: {problem}.") from None
    # For most frames, this check of the text is enough.
    if text.count("[") + text.count("{") > most or _LONG_NUMBER.search(text):
        for value, depth in _within(frame, most):
            if depth > most:
                raise _too_deep(most)
            if isinstance(value, int) and not SMALLEST <= value <= LARGEST:
                raise Unsendable(
                    f"A whole number of {len(str(abs(value)))} digits does not fit into 64 bits. Send it as a text."
                )
    return text


def _within(frame: dict[str, Any], most: int) -> Iterator[tuple[Any, int]]:
    """Yield every value of a frame with its depth. An object or a list counts as one level."""
    waiting: list[tuple[Any, int]] = [(frame, 0)]
    while waiting:
        value, depth = waiting.pop()
        inner = isinstance(value, (dict, list, tuple))
        yield value, depth + inner
        if inner and depth <= most:
            waiting += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]


def _too_deep(most: int) -> Unsendable:
    return Unsendable(f"The frame nests deeper than {most} levels.")
