"""Rooms and channels: find, make, list, remove (contract §4, §5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from django.db import IntegrityError, transaction
from django.db.models import Count

from .. import signals
from ..auth.permissions import HISTORY, JOIN, MANAGE, Actor, can, require
from ..conf.settings import config
from ..models import Channel, Membership, Room, new_epoch
from ..monitoring import metrics
from ..notify import broker
from ..notify import messages as bells
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, WHOLE, Address, inbox, is_name
from ..protocol.routing import channel_not_found, invalid_name
from . import audit, inboxes, totals


class ChannelRef(msgspec.Struct, frozen=True):
    """What the path of a message needs to know of a channel; kept in each process's memory until somebody rings."""

    id: int
    address: Address
    epoch: str
    ephemeral: bool
    private: bool
    presence: bool


#: What of a channel can be changed later.
CHANGEABLE = ("description", "metadata", "type", "ephemeral", "retention_count", "retention_age")


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
        _announce_created(channel, actor)
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
            f"You brought {made} channels and rooms into being; {limit} is the limit.",
            [{"limit": "channels_per_client", "value": limit}],
        )


def create_channel(
    actor: Actor,
    address: Address,
    *,
    description: str = "",
    metadata: dict[str, Any] | None = None,
    ephemeral: bool = False,
    retention_count: int | None = None,
    retention_age: int | None = None,
    type: str = "custom",
    hardcoded: bool = False,
    door: str = "socket",
) -> Channel:
    """Make a channel (and its room). Admins only; raises ``BusError`` FORBIDDEN, INVALID_NAME or CHANNEL_EXISTS."""
    check_channel_name(address)
    room = Room.objects.filter(name=address.room).first()
    require(actor, MANAGE, address, private=bool(room and room.private))
    try:
        with transaction.atomic():
            if room is None:
                room, _ = Room.objects.get_or_create(
                    name=address.room,
                    defaults={"created_by": actor.client_id or actor.name, "hardcoded": hardcoded},
                )
            channel = Channel.objects.create(
                room=room,
                name=address.channel,
                description=description,
                metadata=metadata or {},
                ephemeral=ephemeral,
                retention_count=retention_count,
                retention_age=retention_age,
                type=type,
                hardcoded=hardcoded,
                created_by=actor.client_id or actor.name,
                owner=actor.owner,
            )
    except IntegrityError:
        raise BusError(
            ErrorCode.CHANNEL_EXISTS, f"The channel {address} exists already.", [{"address": str(address)}]
        ) from None
    audit.record(actor, door, "create_channel", str(address))
    _announce_created(channel, actor)
    return channel


def _announce_created(channel: Channel, actor: Actor) -> None:
    address = channel.address
    broker.ring_on_commit(bells.Changed(address.room, address.channel))
    transaction.on_commit(
        lambda: signals.channel_created.send_robust(
            Channel,
            room=address.room,
            channel=address.channel,
            created_by=actor.client_id or actor.name,
            private=channel.room.private,
        )
    )


def check_channel_name(address: Address) -> None:
    """Raise ``BusError`` INVALID_NAME unless clients can have a channel there."""
    if address.room == INBOX_ROOM or not is_name(address.room):
        raise invalid_name("room", address.room)
    if not is_name(address.channel):
        raise invalid_name("channel", address.channel)


def delete_channel(actor: Actor, address: Address, *, door: str = "socket") -> None:
    """Remove an empty channel with its history.

    Admins only. Raises ``BusError`` FORBIDDEN, CHANNEL_NOT_FOUND, CHANNEL_PROTECTED (hardcoded) or CHANNEL_NOT_EMPTY.
    """
    with transaction.atomic():
        channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
        require(actor, MANAGE, address, private=bool(channel and channel.room.private))
        if channel is None:
            raise channel_not_found(address)
        if channel.hardcoded or channel.kind != Channel.Kind.CHANNEL:
            raise BusError(
                ErrorCode.CHANNEL_PROTECTED, f"{address} is built in and stays.", [{"address": str(address)}]
            )
        check_empty(channel)
        remove(channel)
    audit.record(actor, door, "delete_channel", str(address))
    transaction.on_commit(
        lambda: signals.channel_deleted.send_robust(
            Channel,
            room=address.room,
            channel=address.channel,
            deleted_by=actor.client_id or actor.name,
            private=channel.room.private,
        )
    )


def update_channel(actor: Actor, address: Address, changes: dict[str, Any], *, door: str) -> Channel:
    """Change fields of :data:`CHANGEABLE` of a channel, hardcoded or not.

    Admins only. Raises ``BusError`` FORBIDDEN or CHANNEL_NOT_FOUND.
    """
    with transaction.atomic():
        channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
        require(actor, MANAGE, address, private=bool(channel and channel.room.private))
        if channel is None or channel.kind != Channel.Kind.CHANNEL:
            raise channel_not_found(address)
        changed = [field for field in CHANGEABLE if field in changes and getattr(channel, field) != changes[field]]
        for field in changed:
            setattr(channel, field, changes[field])
        if changed:
            # What somebody cared to describe is no longer swept when it is empty.
            channel.auto_created = False
            channel.save(update_fields=[*changed, "auto_created"])
            audit.record(actor, door, "update_channel", str(address), **{field: changes[field] for field in changed})
    return channel


def check_empty(channel: Channel) -> None:
    """Raise ``BusError`` CHANNEL_NOT_EMPTY when connected clients are members; costs a query."""
    members = list(
        Membership.objects.filter(channel=channel, client__node__isnull=False).values_list(
            "client__client_id", flat=True
        )[:100]
    )
    if members:
        raise BusError(
            ErrorCode.CHANNEL_NOT_EMPTY,
            f"{channel.address} has {len(members)} members; it can be deleted once they left.",
            [{"participants": members}],
        )


def remove(channel: Channel) -> None:
    """Remove a channel with its log, without a question; inside the caller's transaction."""
    address, channel_id = channel.address, channel.id
    # Children first and in bulk: the collector would load a million messages to delete them one by one.
    channel.messages.all()._raw_delete(using="default")
    channel.delete()
    # The total of all messages ever does not go down with their channel.
    totals.add({"messages": channel.head})
    broker.ring_on_commit(bells.Changed(address.room, address.channel, deleted=channel_id))


def participants(channel_ids: list[int]) -> dict[int, int]:
    """How many connected clients are members, by channel id, over all processes."""
    rows = (
        Membership.objects.filter(channel_id__in=channel_ids, client__node__isnull=False)
        .values("channel_id")
        .annotate(members=Count("id"))
        .values_list("channel_id", "members")
    )
    return dict(rows)


def may_see(actor: Actor, channel: Channel) -> bool:
    """Whether ``actor`` may know that the channel exists."""
    address, private = channel.address, channel.room.private
    return any(can(actor, action, address, private=private) for action in (JOIN, HISTORY))
