"""The channels that there are: found by address, and made when a message or a member comes first."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from django.db import transaction

from .. import signals
from ..auth.permissions import JOIN, Actor, can, require
from ..conf.settings import config
from ..models import Channel, Room, new_epoch
from ..monitoring import metrics
from ..notify import dispatch
from ..notify import messages as notifications
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import WHOLE, Address, inbox
from ..protocol.routing import channel_not_found
from . import inboxes


class ChannelRef(msgspec.Struct, frozen=True):
    """What the path of a message needs to know of a channel; remembered by each process until a notification of a change."""

    id: int
    address: Address
    epoch: str
    ephemeral: bool
    private: bool
    presence: bool


def ref_of(channel: Channel) -> ChannelRef:
    """A channel's row as a process remembers it; costs a query when ``room`` is not loaded."""
    room = channel.room
    return ChannelRef(
        id=channel.id,
        address=Address(room.name, channel.name),
        epoch=channel.epoch,
        ephemeral=channel.ephemeral,
        private=room.private,
        presence=(config().presence if room.presence is None else room.presence)
        and channel.kind == Channel.Kind.CHANNEL,
    )


def inbox_ref(channel_id: int, client_id: str, epoch: str) -> ChannelRef:
    """What :func:`find` says of an inbox of which this much is known."""
    return ChannelRef(channel_id, inbox(client_id), epoch, ephemeral=False, private=True, presence=False)


def find(address: Address) -> ChannelRef | None:
    """The channel at ``address``, or None."""
    channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
    return ref_of(channel) if channel is not None else None


def find_all(addresses: Collection[Address]) -> dict[Address, ChannelRef]:
    """Those of the channels that are there; one query."""
    channels = Channel.objects.select_related("room").filter(
        room__name__in={address.room for address in addresses}, name__in={address.channel for address in addresses}
    )
    return {channel.address: ref_of(channel) for channel in channels if channel.address in addresses}


def kind_of(address: Address) -> str:
    """The :class:`Channel.Kind` that an address stands for."""
    if address.is_everyone:
        return Channel.Kind.EVERYONE
    if address.is_inbox:
        return Channel.Kind.INBOX
    return Channel.Kind.ROOM if address.channel == WHOLE else Channel.Kind.CHANNEL


def ensure(address: Address, actor: Actor, *, create: bool = True, action: str = JOIN) -> tuple[ChannelRef, bool]:
    """The channel at ``address``, made when it is missing; and whether it was made.

    Making follows ``auto_create`` for rooms and channels, for whoever may do ``action`` there; logs of whole rooms, inboxes and
    everybody are always made. Raises ``BusError`` CHANNEL_NOT_FOUND where nothing may be made, FORBIDDEN, LIMIT_REACHED where
    the actor made too many.
    """
    found = find(address)
    kind = kind_of(address)
    creatable = create and (config().auto_create or actor.manages)
    if found is not None and not (found.private and not can(actor, action, address, private=True)):
        return found, False
    if kind == Channel.Kind.CHANNEL and not creatable:
        # After the same queries, whether it is hidden (the caller refuses) or not there.
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
        # Nothing is made by who is refused then.
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
                # Who brings a room into being by writing to all of it answers for the room's log.
                "auto_created": kind == Channel.Kind.CHANNEL or (kind == Channel.Kind.ROOM and room_made),
                "type": "custom" if kind == Channel.Kind.CHANNEL else "system",
                "epoch": inboxes.take_epoch(address.channel) if kind == Channel.Kind.INBOX else new_epoch(),
            },
        )
    channel.room = room
    if made and kind == Channel.Kind.CHANNEL:
        announce_created(channel, actor)
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
    """After the commit: tell the other processes and the signal `channel_created` of a new channel."""
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
