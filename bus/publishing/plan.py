"""Step 1, plan: where a message goes, and whether its sender may write there. Nothing here waits or queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..auth.permissions import Actor, require_admin_for
from ..conf.table import Config
from ..directory.channels import ChannelRef
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import KIND_PRIVATE, KIND_PUBLISH, Inbound
from ..protocol.limits import Limits
from ..protocol.names import INBOX_ROOM, WHOLE, Address, is_client_id
from ..protocol.routing import Route, place

#: The address that stands for all inboxes of a private message.
INBOXES = Address(INBOX_ROOM, WHOLE)
#: What a message without an address falls back to where its connection has no initial channel.
_NOWHERE = Address("", "")


class Plan(NamedTuple):
    """A message with the logs that it goes into.

    ``unknown`` are targets that no client ever was. ``unproven`` are targets that get it only with their resume token.
    """

    inbound: Inbound
    refs: Sequence[ChannelRef]
    unknown: Sequence[str] = ()
    unproven: Sequence[str] = ()


def route(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """Where the message goes. ``initial`` is the address of a message that names none; without it such a message is refused.

    Raises ``BusError`` UNKNOWN_TYPE, INVALID_NAME, VALIDATION_ERROR, or FORBIDDEN for what only admins may send.
    """
    found = ROUTES.get(inbound.kind)
    if found is None:
        raise BusError(
            ErrorCode.UNKNOWN_TYPE,
            f"A {inbound.type} frame is only accepted on the socket. Send events, private or system messages.",
            [{"field": "type"}],
        )
    return found(inbound, actor, initial)


def _event(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """An event or a system message: to a channel, a whole room or everybody, or through ``pm`` to inboxes."""
    room, channel = inbound.room, inbound.channel
    if initial is None:
        if not room and not channel:
            raise BusError(
                ErrorCode.VALIDATION_ERROR,
                details=[{"field": "channel", "message": "The address is missing. Give `room` and `channel`."}],
            )
        initial = _NOWHERE
    found = place(room, channel, initial)
    address = found.address
    require_admin_for(actor, inbound.type, address)
    if found.targets is None:
        return found
    # `pm` in any room leads to the inboxes in `to`, and never to a place where others read along.
    return _private_to(inbound.to or ([address.channel] if address.is_inbox else []))


def _private(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """A private message: to the inbox of each target."""
    return _private_to(inbound.to)


def _private_to(targets: Sequence[str]) -> Route:
    if not targets:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "to", "message": "`to` is missing. It must be a client_id or a list of client_ids."}],
        )
    return Route(INBOXES, targets)


#: How messages of each kind are routed. A new kind of message has its row here, and every door takes it.
ROUTES: dict[str, Callable[[Inbound, Actor, Address | None], Route]] = {KIND_PUBLISH: _event, KIND_PRIVATE: _private}


def sender_of(actor: Actor) -> str:
    """The client id under which ``actor`` publishes without a socket. Raises ``BusError`` VALIDATION_ERROR."""
    sender = actor.client_id or actor.name
    if not is_client_id(sender):
        # The name of a token or a user can be any text; on the wire a sender is a client_id.
        raise BusError(ErrorCode.VALIDATION_ERROR, f"{sender[:64]!r} is not a valid sender.", [{"field": "client_id"}])
    return sender


def at(problem: BusError, index: int) -> BusError:
    """A problem with the place of its message in a batch."""
    details = [{"index": index, **fault} for fault in problem.details] or [{"index": index}]
    return BusError(problem.code, problem.message, details, problem.retry_after)


def limits_of(settings: Config) -> Limits:
    """The settings as the limits of a connection and of its frames."""
    rate = settings.rate_limit
    return Limits(
        frame_bytes=settings.frame_bytes,
        depth=settings.frame_depth,
        targets=settings.targets,
        frames_per_second=rate,
        frames_burst=settings.rate_burst,
        bytes_per_second=settings.byte_rate_limit if rate else 0.0,
        # The largest frame that is taken has to pass, however slowly.
        bytes_burst=max(2 * settings.byte_rate_limit, settings.frame_bytes),
        bad_frames_burst=settings.bad_frames,
        bad_frames_per_second=0.5,
        memberships=settings.memberships,
    )
