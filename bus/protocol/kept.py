"""Mend frames of older versions that not every JSON reader accepts (docs/protocol.md).

The log never changes a frame, so frames are mended when they are read, always with the same result. Two faults are known: a
``client_timestamp`` with a quote or backslash, and numbers out of range. Any other fault gives a frame marked ``unreadable``.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from .numbers import as_text, out_of_range, unusual

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# The beginning of each frame, up to the time and the seq. The server writes it.
_HEAD = re.compile(
    rb'\{"version":"1\.0","id":%b,"type":%b,"room":%b,"channel":%b,"from":%b,"timestamp":%b(?:,"seq":[0-9]++)?'
    % ((_STRING,) * 6)
)
# The sender's own time as it was stored, and the keys that the server wrote after it.
_TIME = re.compile(
    rb',"client_timestamp":"([\x20-\x7e]{1,64}?)"((?:,"eventType":%b)?(?:,"source":%b)?\})\Z' % ((_STRING,) * 2)
)


def legible(frame: bytes, seq: int | None = None) -> bytes:
    """The stored frame of message ``seq`` in a form that every JSON reader accepts: unchanged, mended, or a placeholder."""
    if _readable(frame):
        return frame
    mended = as_text(_without_quotes(frame))
    return mended if _readable(mended) else placeholder(frame, seq)


def placeholder(frame: bytes, seq: int | None = None) -> bytes:
    """The frame instead of an unreadable one: its address, sender and position if they are readable, and ``unreadable``."""
    head = _HEAD.match(frame)
    if head and _readable(head[0] + b"}"):
        told = head[0]
    else:
        told = b'{"version":"1.0","type":"event"' + (b"" if seq is None else b',"seq":%d' % seq)
    return told + b',"payload":{},"unreadable":true}'


def _readable(frame: bytes) -> bool:
    try:
        _object.decode(frame)
    except (msgspec.DecodeError, RecursionError):
        return False
    return not unusual(frame) or out_of_range(frame) is None


def _without_quotes(frame: bytes) -> bytes:
    """The frame with the sender's time as ISO text. It stays as it is if that time cannot be read."""
    place = frame.rfind(b',"client_timestamp":"')
    found = _TIME.match(frame, place) if place >= 0 else None
    if found is None:
        return frame
    try:
        moment = datetime.fromisoformat(found[1].decode())
    except ValueError:
        return frame
    return b'%b,"client_timestamp":"%b"%b' % (frame[:place], moment.isoformat().encode(), found[2])
