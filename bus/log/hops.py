"""How many handlers, one after the other, led to a message. The count stops handlers that publish to one another for ever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from ..models import Message
from ..protocol.errors import BusError, ErrorCode
from .entry import Entry

#: The most hops of a message.
MOST = 8

_hops: ContextVar[int] = ContextVar("arqonbus_hops", default=0)


@contextmanager
def handling() -> Iterator[None]:
    """Bound the effect of :func:`publish_with` to a block."""
    token = _hops.set(0)
    try:
        yield
    finally:
        _hops.reset(token)


def publish_with(hops: int) -> None:
    """Give the messages that are published from now on, until the end of :func:`handling`, this many hops."""
    _hops.set(hops)


def counted() -> bool:
    """Return whether the messages that are published now have hops."""
    return _hops.get() > 0


def check() -> None:
    """Raise ``BusError`` LOOP_DETECTED if a message that is published now has too many hops."""
    if _hops.get() > MOST:
        raise BusError(ErrorCode.LOOP_DETECTED)


def keep(entries: Sequence[Entry]) -> None:
    """Store the hops of the messages that the current transaction inserted. Raises as :func:`check`."""
    hops = _hops.get()
    if not hops:
        return
    check()
    seqs: dict[int, list[int]] = {}
    for entry in entries:
        if entry.seq is not None and not entry.duplicate and entry.error is None:
            seqs.setdefault(entry.channel_id, []).append(entry.seq)
    for channel_id, some in seqs.items():
        Message.objects.filter(channel_id=channel_id, seq__in=some).update(hops=hops)
