"""Find the id of a frame that cannot be decoded, with bounded work. Its sender then knows which frame was refused."""

from __future__ import annotations

import re

import msgspec

_text = msgspec.json.Decoder(str)

# The id is searched for in this many bytes at the beginning and at the end of a frame.
_BEGINNING, _END = 4096, 1024
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_VALUE = rb"(%b|-?[0-9]++)" % _STRING
_TOKENS = re.compile(rb'("id"\s*+:\s*+)|%b|[\[\]{}"]' % _STRING, re.DOTALL)
_ID_VALUE = re.compile(_VALUE, re.DOTALL)
_LAST_ID = re.compile(rb',\s*+"id"\s*+:\s*+%b\s*+\}\s*+\Z' % _VALUE, re.DOTALL)


def id_text(value: bytes) -> str | None:
    """The text of an id from its JSON: a string, or the digits of a number. None for any other value."""
    if value[:1] == b'"':
        return _text.decode(value)
    return value.decode() if value[:1] in b"-0123456789" else None


def id_at_sight(data: bytes) -> str | None:
    """The ``id`` of a frame that is not decoded, from its first bytes or its very end. None if it is not there."""
    found = _first_id(data[:_BEGINNING])
    if found is None and (last := _LAST_ID.search(data, max(0, len(data) - _END))):
        found = last[1]
    if found is None:
        return None
    try:
        text = id_text(found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return text if text and len(text) <= 128 and text.isprintable() else None


def _first_id(data: bytes) -> bytes | None:
    """The JSON of the first ``id`` that is a key of the frame itself, not of an object inside it."""
    depth = 0
    for token in _TOKENS.finditer(data):
        first = token[0][:1]
        if first in (b"{", b"["):
            depth += 1
        elif first in (b"}", b"]"):
            depth -= 1
        elif token[1] and depth == 1:
            value = _ID_VALUE.match(data, token.end())
            return value[0] if value else None
        elif token[0] == b'"':
            return None  # The string ends after the searched bytes.
    return None
