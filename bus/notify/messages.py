"""Bells: what the processes of a bus tell one another, and its form on the channel layer.

Each is a hint and no more (``bus.notify.broker``): whoever misses one finds in the database what it pointed at.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from ..protocol.errors import ErrorCode
from ..protocol.names import INBOX_ROOM
from .seal import seal, unseal

logger = logging.getLogger("arqonbus.broker")

#: Frames above this many bytes in one bell are left out and read from the log by those who need them. Bells that go together
#: in one message of the layer hold no more either, unless a single ephemeral frame does: what is on its way is copied by the
#: layer for each process.
INLINE_BYTES = 256 * 1024
CONTROL_GROUP = "arqonbus.control"

# What a message in a bell takes besides its frame.
_ROW = 250

#: A committed message.
Committed = tuple[int, str, str, str, int, bytes]


class Published(msgspec.Struct, tag="p", array_like=True):
    """Messages were committed: ``(channel_id, room, channel, epoch, seq, frame)`` each.

    An empty frame is to be read from the log.
    """

    messages: list[Committed]


class Passing(msgspec.Struct, tag="f", array_like=True):
    """Messages of ephemeral channels, which no log has: ``(channel_id, frame)`` each.

    ``keys`` has for each the key by which a repeat is recognised (``log.Passed``), empty where its sender gave no id.
    """

    frames: list[tuple[int, bytes]]
    keys: list[str] = []

    def keyed(self) -> Iterator[tuple[int, bytes, str]]:
        """``(channel_id, frame, key)`` of each."""
        for position, (channel_id, frame) in enumerate(self.frames):
            # A process of an older version sends no keys.
            yield channel_id, frame, self.keys[position] if position < len(self.keys) else ""


class Noticed(msgspec.Struct, tag="n", array_like=True):
    """A notice of presence for those of a channel's members who may see who is there."""

    channel_id: int
    frame: bytes


class Changed(msgspec.Struct, tag="c", array_like=True):
    """What processes remember of a channel or room is no longer true; ``deleted`` is the id of a log that went."""

    room: str
    channel: str
    deleted: int = 0


class AccessChanged(msgspec.Struct, tag="a", array_like=True):
    """Who may do what changed: look again at the connections that ``subject`` concerns (``bus.services.rights``)."""

    subject: str
    id: int


class Dismiss(msgspec.Struct, tag="d", array_like=True):
    """Close a client's connection. ``connection_id`` empty: whichever it is.

    With ``before`` (``services.claims.Order``) that one and all older ones, but none that took the id later.
    """

    client_id: str
    connection_id: str
    close_code: int
    code: ErrorCode
    message: str
    before: tuple[int, int] | None = None


class Presence(msgspec.Struct, tag="m", array_like=True):
    """A channel's number of members changed in another process."""

    channel_id: int


Bell = Published | Passing | Noticed | Changed | AccessChanged | Dismiss | Presence

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Bell])
_one_by_one = msgspec.msgpack.Decoder(list[msgspec.Raw])
_one = msgspec.msgpack.Decoder(Bell)


def shard_group(channel_id: int, shards: int) -> str:
    """The group on the layer over which a channel's bells go (Channels' alphabet, under 100 characters)."""
    return f"arqonbus.bell.{channel_id % shards}"


def addressed(bell: Bell, shards: int) -> Iterable[tuple[str, Bell]]:
    """The groups that a bell goes to, each with its part of it."""
    if isinstance(bell, Published):
        yield from _by_group(bell.messages, shards)
    elif isinstance(bell, Passing):
        parts: dict[str, Passing] = {}
        for channel_id, frame, key in bell.keyed():
            part = parts.setdefault(shard_group(channel_id, shards), Passing([], []))
            part.frames.append((channel_id, frame))
            part.keys.append(key)
        yield from parts.items()
    elif isinstance(bell, (Noticed, Presence)):
        yield shard_group(bell.channel_id, shards), bell
    else:
        yield CONTROL_GROUP, bell


def _by_group(rows: list[Committed], shards: int) -> Iterable[tuple[str, Bell]]:
    groups: dict[str, list[Committed]] = {}
    for row in rows:
        # Inboxes are made while they are written to, so whoever holds the client cannot have asked for their shard.
        inbox = row[1] == INBOX_ROOM
        groups.setdefault(CONTROL_GROUP if inbox else shard_group(row[0], shards), []).append(row)
    for group, part in groups.items():
        yield group, Published(part)


def passing(bell: Bell) -> int:
    """How many frames the bell holds that are nowhere else."""
    if isinstance(bell, Passing):
        return len(bell.frames)
    return 1 if isinstance(bell, Noticed) else 0


def weight(bell: Bell) -> int:
    """About the bytes that a bell takes while it waits."""
    if isinstance(bell, Published):
        return sum(_ROW + len(row[5]) for row in bell.messages)
    if isinstance(bell, Passing):
        return sum(_ROW + len(frame) for _, frame in bell.frames)
    return _ROW + (len(bell.frame) if isinstance(bell, Noticed) else 0)


def message_of(bells: list[Bell], sender: str) -> dict[str, Any]:
    """The layer's message; frames that make it too long are left for the log."""
    size = 0
    for bell in bells:
        if isinstance(bell, Published):
            for position, row in enumerate(bell.messages):
                size += len(row[5])
                if size > INLINE_BYTES:
                    bell.messages[position] = (*row[:5], b"")
    return {"type": "bus.bell", "sender": sender, "data": seal(_encoder.encode(bells))}


def bells_of(message: object) -> list[Bell] | None:
    """What :func:`message_of` of a process with our ``SECRET_KEY`` was given; None for a message of anybody else.

    Bells that a process of another version made up are left out, being hints as all are.
    """
    data = unseal(message.get("data")) if isinstance(message, dict) else None
    if data is None:
        return None
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        pass
    known: list[Bell] = []
    try:
        for raw in _one_by_one.decode(data):
            with suppress(msgspec.DecodeError):
                known.append(_one.decode(raw))
    except msgspec.DecodeError:
        logger.warning("a bell of another version", extra={"event": "bell_unknown"})
    return known
