"""The numbers that the bus accepts: those that all JSON readers read alike (RFC 8259 §6, RFC 7493 §2.2).

JSON has no bounds for numbers, but its readers have. An integer of 5,000 digits or ``1e999`` is an error for some readers and
infinite for others. A whole number has at most 64 bits. Any other number must be within the range of a double; readers round
its further digits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

LOWEST, HIGHEST = -(2**63), 2**64 - 1
NUMBER_RULE = (
    "a whole number must be between -2^63 and 2^64-1, and any other within the range of a double. "
    "Send other numbers as text."
)

# The quick check reads every digit as "0". It reads "+" as a digit too, so that `1e+999` looks like `1e999`.
_SHAPES = bytes(ord("0") if chr(c) in "0123456789+" else ord("e") if chr(c) == "E" else c for c in range(256))
_LONG, _LARGE = b"0" * 19, b"0e000"

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# The text before the next number that needs a closer check. All quantifiers are possessive, so that any text is read once.
# A number of up to 18 digits with an exponent up to 289 is within both ranges.
_FINE = re.compile(
    rb'(?:[^"0-9\-]++|"(?:[^"\\]++|\\.)*+"'
    rb"|-?[0-9]{1,18}(?![0-9])(?:\.[0-9]++)?(?:[eE](?:-[0-9]++|\+?0*+(?:[01]?[0-9]{1,2}|2[0-8][0-9])(?![0-9])))?(?![0-9.eE]))*+",
    re.DOTALL,
)
_NUMBER = re.compile(rb"-?[0-9]++(\.[0-9]++)?([eE][+-]?[0-9]++)?")


def unusual(data: bytes) -> bool:
    """Whether a JSON text may hold a number out of range. This quick check is also true for some texts without one."""
    shapes = data.translate(_SHAPES)
    return _LONG in shapes or _LARGE in shapes


def out_of_range(data: bytes) -> bytes | None:
    """The first number out of range in a JSON text, with its own digits. None if there is none."""
    # The digits are nearly always in an id or another string.
    if not unusual(_STRINGS.sub(b'""', data)):
        return None
    return next((found[0] for found in _beyond(data)), None)


def as_text(data: bytes) -> bytes:
    """The JSON text with its numbers out of range as strings, and otherwise unchanged."""
    parts: list[bytes] = []
    end = 0
    for found in _beyond(data):
        parts += (data[end : found.start()], b'"%b"' % found[0])
        end = found.end()
    return b"".join((*parts, data[end:]))


def _beyond(data: bytes) -> Iterator[re.Match[bytes]]:
    end = 0
    while True:
        fine = _FINE.match(data, end)
        number = _NUMBER.match(data, fine.end())  # type: ignore[union-attr] # it may match nothing, but it matches
        if number is None:
            return
        if not _fits(number):
            yield number
        end = number.end()


def _fits(number: re.Match[bytes]) -> bool:
    text = number[0]
    if number[1] is None and number[2] is None:
        return len(text) <= 20 and LOWEST <= int(text) <= HIGHEST
    return math.isfinite(float(text))
