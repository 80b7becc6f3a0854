"""Streams: find one by the uid of its opening, with its channel."""

from __future__ import annotations

from typing import NamedTuple

from ..auth.permissions import JOIN, PUBLISH, Actor, can
from ..log.effects import StreamState
from ..log.streamed import state_of
from ..models import Channel, Client
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

    Raises ``BusError`` STREAM_NOT_FOUND, also for a stream in a channel that ``actor`` may neither join nor publish to. In an
    inbox, which everybody may publish to, only the owners of the stream and of the inbox see a stream.
    """
    state = state_of(of)
    # A hidden stream costs the same queries as a missing one.
    channel = Channel.objects.select_related("room").filter(pk=state.channel_id if state else 0).first()
    if state is None or channel is None:
        _owns_inbox(actor, "")
        raise stream_not_found(of)
    ref = ref_of(channel)
    if not any(can(actor, action, ref.address, private=ref.private) for action in (JOIN, PUBLISH)):
        _owns_inbox(actor, "")
        raise stream_not_found(of)
    if ref.address.is_inbox and not _takes_part(actor, state, ref.address.channel):
        raise stream_not_found(of)
    return Placed(state, ref)


def _takes_part(actor: Actor, state: StreamState, client_id: str) -> bool:
    """Whether ``actor`` owns a stream in the inbox of ``client_id``, or that inbox."""
    # A caller over REST has no client id, and neither has a stream that was taken from its owner.
    own = actor.system or (bool(actor.client_id) and actor.client_id in (state.client_id, client_id))
    own = own or (bool(actor.principal) and actor.principal == state.principal)
    return _owns_inbox(actor, client_id) or own


def _owns_inbox(actor: Actor, client_id: str) -> bool:
    found = Client.objects.filter(client_id=client_id, principal=actor.principal or "nobody")
    return found.exists()
