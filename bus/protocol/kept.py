"""Frames that older versions kept: what is no JSON for every reader is given in a form that is (docs/protocol.md).

The log never changes a frame, so this happens on the way out, and always with the same result. Two faults are known: a
``client_timestamp`` with a quote or backslash in it, and numbers out of range. What cannot be mended is said to be unreadable.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from .numbers import as_text, out_of_range, unusual

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# What the server writes at the beginning of each frame, down to the time and the seq.
_HEAD = re.compile(
    rb'\{"version":"1\.0","id":%b,"type":%b,"room":%b,"channel":%b,"from":%b,"timestamp":%b(?:,"seq":[0-9]++)?'
    % ((_STRING,) * 6)
)
# The sender's own time as it was kept, with one character between date and time, and what the server wrote behind it.
_TIME = re.compile(
    rb',"client_timestamp":"([\x20-\x7e]{1,64}?)"((?:,"eventType":%b)?(?:,"source":%b)?\})\Z' % ((_STRING,) * 2)
)


def legible(frame: bytes, seq: int | None = None) -> bytes:
    """The kept frame of message ``seq`` as it goes out: as it is, where every reader of JSON takes it; else mended, or marked."""
    if _readable(frame):
        return frame
    mended = as_text(_without_quotes(frame))
    return mended if _readable(mended) else placeholder(frame, seq)


def placeholder(frame: bytes, seq: int | None = None) -> bytes:
    """What can be said of a frame whose content cannot be read: where it stands and whose it is, and ``unreadable``."""
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
    """The frame with the sender's time as ISO text."""
    place = frame.rfind(b',"client_timestamp":"')
    found = _TIME.match(frame, place) if place >= 0 else None
    if found is None:
        return frame
    try:
        moment = datetime.fromisoformat(found[1].decode())
    except ValueError:
        return frame
    return b'%b,"client_timestamp":"%b"%b' % (frame[:place], moment.isoformat().encode(), found[2])
