"""Channels: find them by address, and create them when a first message or member needs them."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from django.db import transaction

from .. import signals
from ..auth.permissions import JOIN, Actor, can, require
from ..conf.settings import config
from ..gates import gates_of
from ..models import Channel, Room, new_epoch
from ..monitoring import metrics
from ..notify import dispatch
from ..notify import messages as notifications
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import WHOLE, Address, inbox
from ..protocol.routing import channel_not_found
from ..shapes import WorkRule
from . import inboxes


class ChannelRef(msgspec.Struct, frozen=True):
    """The properties of a channel that the way of a message needs.

    Each process remembers them until a notification reports a change.
    """

    id: int
    address: Address
    epoch: str
    ephemeral: bool
    private: bool
    #: Whether members are told by name who joins and leaves.
    presence: bool
    #: The rule of a work channel; None for any other channel.
    work: WorkRule | None = None
    #: Whether gates of the project decide on its messages (:mod:`bus.gates`).
    gated: bool = False
    #: Whether members are told only how many join and leave.
    counted: bool = False
    #: Whether members do not learn how many they are.
    uncounted: bool = False


def ref_of(channel: Channel) -> ChannelRef:
    """Return the properties of a channel's row. Costs a query when ``room`` is not loaded."""
    room = channel.room
    address = Address(room.name, channel.name)
    presence = channel.presence if channel.kind == Channel.Kind.CHANNEL else Channel.Presence.NONE
    if presence is None:
        told = config().presence if room.presence is None else room.presence
    else:
        told = presence == Channel.Presence.NAMES
    return ChannelRef(
        id=channel.id,
        address=address,
        epoch=channel.epoch,
        ephemeral=channel.ephemeral,
        private=room.private,
        presence=told,
        work=None if channel.work is None else msgspec.convert(channel.work, WorkRule),
        gated=bool(gates_of(address)),
        counted=presence == Channel.Presence.COUNTS,
        uncounted=presence == Channel.Presence.NONE,
    )


def inbox_ref(channel_id: int, client_id: str, epoch: str) -> ChannelRef:
    """Return the reference of an inbox, as :func:`find` would, without a query."""
    return ChannelRef(channel_id, inbox(client_id), epoch, ephemeral=False, private=True, presence=False)


def find(address: Address) -> ChannelRef | None:
    """Return the channel at ``address``, or None."""
    channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
    return ref_of(channel) if channel is not None else None


def find_all(addresses: Collection[Address]) -> dict[Address, ChannelRef]:
    """Return the existing channels among ``addresses``. Costs one query."""
    channels = Channel.objects.select_related("room").filter(
        room__name__in={address.room for address in addresses}, name__in={address.channel for address in addresses}
    )
    return {channel.address: ref_of(channel) for channel in channels if channel.address in addresses}


def kind_of(address: Address) -> str:
    """Return the :class:`Channel.Kind` of the channel at an address."""
    if address.is_everyone:
        return Channel.Kind.EVERYONE
    if address.is_inbox:
        return Channel.Kind.INBOX
    return Channel.Kind.ROOM if address.channel == WHOLE else Channel.Kind.CHANNEL


def ensure(address: Address, actor: Actor, *, create: bool = True, action: str = JOIN) -> tuple[ChannelRef, bool]:
    """Return the channel at ``address``, created if it is missing, and whether it was created.

    A room or channel is only created with ``create`` and the actor's right to ``action`` there. Unless the actor manages the
    bus, the setting ``auto_create`` must allow it too. Inboxes and the log of messages to everybody are always created. So is
    the log of a whole room if the room exists and, for a private room, if the actor may do ``action``.

    Raises ``BusError`` CHANNEL_NOT_FOUND if the channel may not be created, FORBIDDEN without the right to ``action``,
    and LIMIT_REACHED if the actor has created too many.
    """
    found = find(address)
    kind = kind_of(address)
    creatable = create and (config().auto_create or actor.manages)
    if found is not None and not (found.private and not can(actor, action, address, private=True)):
        return found, False
    if kind == Channel.Kind.CHANNEL and not creatable:
        # A hidden channel costs the same queries as a missing one. For a hidden one, the caller refuses.
        if found is not None:
            return found, False
        raise channel_not_found(address)
    room = Room.objects.filter(name=address.room).first()
    if found is not None:
        return found, False
    if kind == Channel.Kind.CHANNEL or (kind == Channel.Kind.ROOM and room is None):
        if not creatable:
            raise channel_not_found(address)
        require(actor, action, address, private=room is not None and room.private)
        _check_made_by(actor)
    elif kind == Channel.Kind.ROOM and room is not None and room.private:
        # A refused actor must not create anything.
        require(actor, action, address, private=True)
    with transaction.atomic():
        room, room_made = Room.objects.get_or_create(
            name=address.room,
            defaults={
                "created_by": actor.client_id or actor.name,
                "hardcoded": kind in ("inbox", "everyone"),
                "auto_created": kind in ("channel", "room"),
            },
        )
        channel, made = Channel.objects.get_or_create(
            room=room,
            name=address.channel,
            defaults={
                "kind": kind,
                "created_by": actor.client_id or actor.name,
                "owner": actor.owner,
                # If a message to the whole room creates the room, the room's log counts towards the sender's limit.
                "auto_created": kind == Channel.Kind.CHANNEL or (kind == Channel.Kind.ROOM and room_made),
                "type": "custom" if kind == Channel.Kind.CHANNEL else "system",
                "epoch": inboxes.take_epoch(address.channel) if kind == Channel.Kind.INBOX else new_epoch(),
            },
        )
    channel.room = room
    if made and kind == Channel.Kind.CHANNEL:
        announce_created(channel, actor)
    elif made and kind == Channel.Kind.ROOM:
        # For those who follow the room.
        dispatch.notify_on_commit(notifications.ChannelChanged(address.room, address.channel))
    return ref_of(channel), made


def _check_made_by(actor: Actor) -> None:
    limit = config().channels_per_client
    if not limit or actor.manages or not actor.owner:
        return
    made = Channel.objects.filter(owner=actor.owner, auto_created=True).count()
    if made >= limit:
        metrics.limits.labels("channels_per_client").inc()
        raise BusError(
            ErrorCode.LIMIT_REACHED,
            f"You created {made} channels and rooms. The limit is {limit}.",
            [{"limit": "channels_per_client", "value": limit}],
        )


def announce_created(channel: Channel, actor: Actor) -> None:
    """Send the signal `channel_created` and a notification to the other processes after the commit."""
    address = channel.address
    dispatch.notify_on_commit(notifications.ChannelChanged(address.room, address.channel))
    transaction.on_commit(
        lambda: signals.channel_created.send_robust(
            Channel,
            room=address.room,
            channel=address.channel,
            created_by=actor.client_id or actor.name,
            private=channel.room.private,
        )
    )
