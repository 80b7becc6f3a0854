"""Move and read marks, for Django code and for the interfaces without a connection."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.db import transaction

from .. import shapes
from ..auth.permissions import HISTORY, SYSTEM, Actor, checked, require
from ..directory.channels import ChannelRef, ensure, find
from ..log import heads
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from ..protocol.routing import channel_not_found
from ..publishing.django import address_of
from . import marks
from .clients import as_owner
from .held import ChannelHeld
from .marks import Marked, Move


def mark(
    address: str | Address,
    seq: int,
    *,
    actor: Actor = SYSTEM,
    holder: str | None = None,
    back: bool = False,
    epoch: str | None = None,
) -> shapes.Mark:
    """Note that a holder has dealt with a log up to ``seq``. Return its mark.

    ``address`` is ``room:channel``, ``room:*`` or ``pm:<client_id>``. The holder is the principal of ``actor``. Django code
    may name another ``holder``, such as ``user:7`` or ``client:<client_id>``, for which no right is checked. A mark only goes
    forward, unless ``back`` is true. With ``epoch``, the log must still have that epoch.

    Raises ``BusError`` CHANNEL_NOT_FOUND, FORBIDDEN, LIMIT_REACHED, UNAVAILABLE, and VALIDATION_ERROR for a ``seq`` above
    the newest message.
    """
    ref, floor = _readable(address, actor, holder)
    marked = _write(Move(_holder(actor, holder), ref.id, max(seq, floor), back, epoch))
    return shape_of(ref.address, marked)


def begin(address: str | Address, *, actor: Actor = SYSTEM, holder: str | None = None) -> Marked:
    """Return the mark of a holder in a log. Without one it begins now: it gets a mark at the head.

    In an inbox with open questions it begins before the oldest of them.

    A mark may be of an earlier epoch: then messages are missing. The arguments and errors are those of :func:`mark`.
    """
    ref, floor = _readable(address, actor, holder)
    return _write(Move(_holder(actor, holder), ref.id, None, begin=True, floor=floor))


def read(address: str | Address, *, actor: Actor = SYSTEM, holder: str | None = None) -> shapes.Mark:
    """Return the mark of a holder. Without one, ``seq`` and ``unread`` are None.

    The arguments and errors are those of :func:`mark`.
    """
    ref, _ = _readable(address, actor, holder, make=False)
    place = marks.of_channels(_holder(actor, holder), [ref.id]).get(ref.id)
    log = heads([ref.id]).get(ref.id)
    if log is None:
        raise channel_not_found(ref.address)
    if place is None or place.epoch != log.epoch:
        return shapes.Mark(room=ref.address.room, channel=ref.address.channel, seq=None, epoch=log.epoch, unread=None)
    return shape_of(ref.address, Marked(place.seq, place.epoch, log))


def unread(address: str | Address, *, actor: Actor = SYSTEM, holder: str | None = None) -> int | None:
    """Return how many messages lie behind the mark of a holder. None without a mark.

    The arguments and errors are those of :func:`mark`.
    """
    return read(address, actor=actor, holder=holder).unread


amark = sync_to_async(mark, thread_sensitive=True)
aunread = sync_to_async(unread, thread_sensitive=True)


def shape_of(address: Address, marked: Marked) -> shapes.Mark:
    """Return the answer to a mark."""
    return shapes.Mark(
        room=address.room, channel=address.channel, seq=marked.seq, epoch=marked.epoch, unread=marked.unread
    )


def no_log(address: Address) -> BusError:
    """Return the error for a mark in a channel that keeps no messages."""
    message = f"{address} is ephemeral: it keeps no messages."
    return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "channel", "message": message}])


def _holder(actor: Actor, holder: str | None) -> str:
    """Return the holder. Raises ``BusError`` FORBIDDEN for an anonymous actor, whom no connection proves."""
    if holder is not None:
        return holder
    if actor.anonymous:
        raise BusError(ErrorCode.FORBIDDEN, "Authenticate to have marks.")
    return actor.principal


def _readable(address: str | Address, actor: Actor, holder: str | None, *, make: bool = True) -> tuple[ChannelRef, int]:
    """Return a log whose history the actor may read, and the seq from which on it may. ``make`` makes an inbox."""
    _holder(checked(actor), holder)
    where = address_of(address)
    floor = 0
    if where.is_inbox and not actor.system:
        actor, floor = as_owner(actor, where.channel)
        require(actor, HISTORY, where, private=True)
    if where.is_inbox and make:
        return ensure(where, SYSTEM)[0], floor
    ref = find(where)
    if ref is None:
        raise channel_not_found(where)
    if not where.is_inbox:
        require(actor, HISTORY, where, private=ref.private)
    if ref.ephemeral:
        raise no_log(where)
    return ref, floor


def _write(move: Move) -> Marked:
    with transaction.atomic():
        (answer,) = marks.write([move])
    if isinstance(answer, ChannelHeld):
        raise BusError(ErrorCode.UNAVAILABLE, "Another transaction locks this channel. Try again.", retry_after=1.0)
    if isinstance(answer, Exception):
        raise answer
    return answer
