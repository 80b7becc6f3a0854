"""The numbers that are taken: those that every reader of JSON reads alike (RFC 8259 §6, RFC 7493 §2.2).

JSON itself knows no bounds, its readers do: an integer of 5,000 digits or ``1e999`` is an error for some, infinite for others.
A whole number has 64 bits, any other is what a double can hold; a fraction may be longer than that, it is rounded.
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

# The quick look takes every digit for "0", and reads a "+" as a digit to see `1e+999` as it sees `1e999`.
_SHAPES = bytes(ord("0") if chr(c) in "0123456789+" else ord("e") if chr(c) == "E" else c for c in range(256))
_LONG, _LARGE = b"0" * 19, b"0e000"

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# Text up to the next number that has to be looked at; possessive throughout, so it is read once, whatever it is.
# Up to 18 digits and an exponent up to 289 fit into each of the two kinds.
_FINE = re.compile(
    rb'(?:[^"0-9\-]++|"(?:[^"\\]++|\\.)*+"'
    rb"|-?[0-9]{1,18}(?![0-9])(?:\.[0-9]++)?(?:[eE](?:-[0-9]++|\+?0*+(?:[01]?[0-9]{1,2}|2[0-8][0-9])(?![0-9])))?(?![0-9.eE]))*+",
    re.DOTALL,
)
_NUMBER = re.compile(rb"-?[0-9]++(\.[0-9]++)?([eE][+-]?[0-9]++)?")


def unusual(data: bytes) -> bool:
    """A quick look: whether a JSON text may hold a number out of range. It also says so of some texts that hold none."""
    shapes = data.translate(_SHAPES)
    return _LONG in shapes or _LARGE in shapes


def out_of_range(data: bytes) -> bytes | None:
    """The first number of a JSON text that is out of range, as it stands there; None when all are taken."""
    # Nearly always it was an id or another text with digits in it.
    if not unusual(_STRINGS.sub(b'""', data)):
        return None
    return next((found[0] for found in _beyond(data)), None)


def as_text(data: bytes) -> bytes:
    """A JSON text in which numbers out of range stand as strings; nothing else of it changes."""
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
