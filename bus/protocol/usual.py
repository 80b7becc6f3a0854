"""Read the usual frames in one step: a message for a channel, and a part of a streamed message.

Nine of ten frames are events with a few plain keys. This module decodes such a frame into typed fields at once. That takes a
third of the time of reading it key by key (docs/performance.md). Any other frame goes to ``dialects.normalise``, which alone
reports faults. A test compares the two on every frame that this module accepts.

The compiled path reads the commonest of these frames before the function here. That function is its definition.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from .._speed import core
from .appends import AppendFrame, valid_append, value_of
from .dialects import (
    KINDS,
    SERVER_TYPES,
    TYPE_ALIASES,
    V1_TYPES,
    VERSION,
    inner_text,
    may_hold_targets,
    read_closely,
)
from .inbound import KIND_APPEND, KIND_PUBLISH, Inbound
from .names import INBOX_ROOM
from .numbers import out_of_range, unusual
from .values import is_printable, valid_time

_NULL = msgspec.Raw(b"null")


class _Frame(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The keys of a usual frame. Another key, or another JSON type, makes it an unusual one."""

    type: str | None = None
    id: str | None = None
    room: str | None = None
    channel: str | None = None
    payload: msgspec.Raw = _NULL
    message: msgspec.Raw = _NULL
    ack: bool = False
    echo: bool = False
    version: msgspec.Raw = _NULL
    timestamp: str | None = None
    metadata: msgspec.Raw = _NULL
    # The server ignores the sender that a client names, so nothing checks it here.
    sender: msgspec.Raw = msgspec.field(default=_NULL, name="from")


_decode = msgspec.json.Decoder(_Frame).decode
_decode_append = msgspec.json.Decoder(AppendFrame).decode


def read(data: bytes) -> Inbound:
    """The canonical form of a frame. Raises :class:`~bus.protocol.faults.FrameError` with every fault of the frame."""
    return usual(data) or read_closely(data)


def usual_in_python(data: bytes) -> Inbound | None:
    """The canonical form of a usual frame. None for any other frame, valid or not."""
    try:
        if not data.isascii():
            data.decode()  # As in ``decode_object``.
        frame = _decode(data)
    except (ValueError, RecursionError):  # The exceptions of msgspec are ValueErrors too.
        return _append(data) if b'"append"' in data else None
    if unusual(data) and out_of_range(data) is not None:
        return None
    kind = frame.type or "event"
    if len(kind) > 64 or not _is_published(kind) or frame.channel == INBOX_ROOM:
        return None
    message_id = frame.id
    if message_id is not None and not (1 <= len(message_id) <= 128 and message_id.isprintable()):
        return None
    if frame.version is not _NULL and not _is_v1(frame):
        return None
    payload, message, metadata = value_of(frame.payload), value_of(frame.message), value_of(frame.metadata)
    if payload is not None:
        if payload[:1] != b"{" or may_hold_targets(payload):
            return None
        if message is None:
            message = inner_text(payload)
    elif message is not None:
        payload = b'{"message":%b}' % message
    if metadata is not None and metadata[:1] != b"{":
        return None
    return Inbound(
        KIND_PUBLISH,
        TYPE_ALIASES.get(kind, kind),
        message_id,
        frame.room or None,
        frame.channel or None,
        [],
        payload,
        message,
        metadata,
        valid_time(frame.timestamp) if frame.timestamp is not None else None,
        frame.echo,
        frame.ack,
    )


def _append(data: bytes) -> Inbound | None:
    """The canonical form of a valid ``append``. None for any other frame."""
    try:
        data.decode()
        frame = _decode_append(data)
    except (ValueError, RecursionError):
        return None
    if unusual(data) and out_of_range(data) is not None:
        return None
    if frame.id is not None and not is_printable(frame.id, 128):
        return None
    version = value_of(frame.version)
    if version is not None and (version != VERSION or not (frame.id or "").startswith("arq_")):
        return None
    append = valid_append(frame)
    return None if append is None else Inbound(KIND_APPEND, "append", frame.id, ack=frame.ack, append=append)


@lru_cache(maxsize=1024)
def _is_published(kind: str) -> bool:
    """Whether messages of the type ``kind``, which may be an alias, are published."""
    return kind.isprintable() and kind not in KINDS and kind not in SERVER_TYPES


def _is_v1(frame: _Frame) -> bool:
    """Whether a frame with ``version`` follows the rules of v1."""
    return bytes(frame.version) == VERSION and frame.type in V1_TYPES and (frame.id or "").startswith("arq_")


usual: Callable[[bytes], Inbound | None] = usual_in_python
if core is not None:
    core.configure_usual(Inbound, KIND_PUBLISH, usual_in_python)
    usual = core.usual
