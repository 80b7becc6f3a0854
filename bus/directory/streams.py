"""Streams: find one by the uid of its opening, with its channel."""

from __future__ import annotations

from typing import NamedTuple

from ..auth.permissions import JOIN, PUBLISH, Actor, can
from ..log.effects import StreamState
from ..log.streamed import state_of
from ..models import Channel
from ..protocol.errors import BusError, ErrorCode
from .channels import ChannelRef, ref_of


class Placed(NamedTuple):
    """A stream and its channel."""

    state: StreamState
    ref: ChannelRef


def stream_not_found(of: str) -> BusError:
    """Return the error for an unknown stream, and for one that the caller may not see."""
    return BusError(ErrorCode.STREAM_NOT_FOUND, details=[{"of": of}])


def find_stream(actor: Actor, of: str) -> Placed:
    """Return the stream whose opening has the uid ``of``.

    Raises ``BusError`` STREAM_NOT_FOUND, also for a stream in a channel that ``actor`` may neither join nor publish to.
    """
    state = state_of(of)
    # A hidden stream costs the same queries as a missing one.
    channel = Channel.objects.select_related("room").filter(pk=state.channel_id if state else 0).first()
    if state is None or channel is None:
        raise stream_not_found(of)
    ref = ref_of(channel)
    if not any(can(actor, action, ref.address, private=ref.private) for action in (JOIN, PUBLISH)):
        raise stream_not_found(of)
    return Placed(state, ref)
