"""Step 1, plan: the route of a message, and the sender's right to send such a message. Nothing here waits or queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..auth.permissions import Actor, require_admin_for
from ..conf.table import Config
from ..directory.channels import ChannelRef
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import KIND_AMEND, KIND_APPEND, KIND_PRIVATE, KIND_PUBLISH, KIND_REPLY, Inbound
from ..protocol.limits import Limits
from ..protocol.names import INBOX_ROOM, WHOLE, Address, is_client_id
from ..protocol.routing import Route, place

#: The address that stands for all inboxes of a private message.
INBOXES = Address(INBOX_ROOM, WHOLE)
#: The initial address of a connection that has no initial channel.
_NOWHERE = Address("", "")
#: The route of every append, reply and amendment: something is looked up before they go on.
LOOKED_UP = Route(_NOWHERE, ())


class Plan(NamedTuple):
    """A message and the logs that it goes into.

    ``unknown`` are targets that never connected. ``unproven`` targets receive the message only with their resume token.
    """

    inbound: Inbound
    refs: Sequence[ChannelRef]
    unknown: Sequence[str] = ()
    unproven: Sequence[str] = ()


def route(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """The route of a message. ``initial`` is the address of a message without one. Without it such a message is refused.

    Raises ``BusError`` UNKNOWN_TYPE, INVALID_NAME, VALIDATION_ERROR, or FORBIDDEN for a message that only admins may send.
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
    """The route of an event or a system message: to a channel, a whole room or everybody, or through ``pm`` to inboxes."""
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
    # A message to `pm`, in any room, goes to the inboxes in `to`, and never to a log that others can read.
    return _private_to(inbound.to or ([address.channel] if address.is_inbox else []))


def _private(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """The route of a private message: to the inbox of each target."""
    return _private_to(inbound.to)


def _looked_up(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """The route of an append, a reply or an amendment: to no log yet. The stream, question or message is looked up first."""
    return LOOKED_UP


def place_of(inbound: Inbound, actor: Actor, initial: Address | None) -> Route:
    """The route of an amendment by its own address. Raises ``BusError`` as :func:`route`.

    A private message cannot be amended, so a route to inboxes is refused with VALIDATION_ERROR.
    """
    found = _event(inbound, actor, initial)
    if found.targets is not None:
        message = "A private message cannot be amended."
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": "of", "message": message}])
    return found


def _private_to(targets: Sequence[str]) -> Route:
    if not targets:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            details=[{"field": "to", "message": "`to` is missing. It must be a client_id or a list of client_ids."}],
        )
    return Route(INBOXES, targets)


#: The function that routes each kind of message. With a row here, every interface accepts a new kind.
ROUTES: dict[str, Callable[[Inbound, Actor, Address | None], Route]] = {
    KIND_PUBLISH: _event,
    KIND_PRIVATE: _private,
    KIND_APPEND: _looked_up,
    KIND_REPLY: _looked_up,
    KIND_AMEND: _looked_up,
}


def sender_of(actor: Actor) -> str:
    """The client id under which ``actor`` publishes without a socket. Raises ``BusError`` VALIDATION_ERROR."""
    sender = actor.client_id or actor.name
    if not is_client_id(sender):
        # The name of a token or a user can be any text, but on the wire a sender is a client_id.
        raise BusError(ErrorCode.VALIDATION_ERROR, f"{sender[:64]!r} is not a valid sender.", [{"field": "client_id"}])
    return sender


def at(problem: BusError, index: int) -> BusError:
    """``problem`` with the ``index`` of its message in a batch in each detail."""
    details = [{"index": index, **fault} for fault in problem.details] or [{"index": index}]
    return BusError(problem.code, problem.message, details, problem.retry_after)


def limits_of(settings: Config) -> Limits:
    """The limits of a connection and of its frames, from the settings."""
    rate = settings.rate_limit
    return Limits(
        frame_bytes=settings.frame_bytes,
        depth=settings.frame_depth,
        targets=settings.targets,
        frames_per_second=rate,
        frames_burst=settings.rate_burst,
        bytes_per_second=settings.byte_rate_limit if rate else 0.0,
        # The bucket must be large enough for the largest allowed frame, even if it fills slowly.
        bytes_burst=max(2 * settings.byte_rate_limit, settings.frame_bytes),
        bad_frames_burst=settings.bad_frames,
        bad_frames_per_second=0.5,
        memberships=settings.memberships,
    )
