"""One message on its way into the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .._speed import core
from ..protocol.errors import BusError, ErrorCode
from .effects import Effect


class Entry(msgspec.Struct, eq=False):
    """A message before and after its commit.

    The caller gives ``channel_id``; ``head`` and ``tail``, the frame's bytes around time and seq; ``uid``, ``type`` and
    ``sender``. It may give ``key``, the sender's own message id in the form ``sender/id``. The log sets ``seq``,
    ``epoch``, ``frame`` and ``duplicate``, or ``error``. Then ``done`` is called in the event loop with the entry.
    ``context`` and ``request_id`` belong to the caller. ``owner`` is the principal or the network address that published
    the entry. While the entry waits, it counts for that owner. ``effect`` is what the entry does to a streamed message.
    An entry whose effect is a part without an end inserts no message: its ``seq`` and ``frame`` stay empty. ``swallowed`` says
    that a gate wants the message in no log.

    It is a struct, because that is made in half the time of a class with slots. The order of its arguments is fixed.
    """

    channel_id: int
    head: bytes
    tail: bytes
    uid: str
    type: str
    sender: str
    key: str | None = None
    done: Callable[[Entry], None] | None = None
    exclude: Any = None
    context: Any = None
    request_id: str | None = None
    owner: str = ""
    effect: Effect | None = None
    queued_at: float = 0.0
    seq: int | None = None
    epoch: str = ""
    frame: bytes = b""
    duplicate: bool = False
    swallowed: bool = False
    error: BusError | None = None


if core is not None:
    core.know(entry=Entry)


def size_of(entry: Entry) -> int:
    """Return the bytes that an entry keeps in memory while it waits."""
    size = len(entry.head) + len(entry.tail)
    return size if entry.effect is None else size + entry.effect.size


def is_passed(entry: Entry) -> bool:
    """Return whether a transaction passed over the entry, so that it still has to be written."""
    return entry.seq is None and entry.error is None and (entry.effect is None or not entry.effect.settled)


def id_taken() -> BusError:
    """Return the error for a message whose sender used its ``id`` in another channel.

    Without the error, the message would count as a repeat of the other one and would be lost.
    """
    return BusError(
        ErrorCode.VALIDATION_ERROR,
        "You sent another message with this id to another channel. Give each message its own id.",
        [{"field": "id"}],
    )
