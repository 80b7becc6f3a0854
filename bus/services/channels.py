"""Channels: create, change and remove them, and count their members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from .. import signals
from ..auth.permissions import HISTORY, JOIN, MANAGE, Actor, can, require
from ..directory.channels import announce_created
from ..models import Channel, Membership, Room, StreamPart, StreamSteer
from ..notify import dispatch
from ..notify import messages as notifications
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, Address, is_name
from ..protocol.routing import channel_not_found, invalid_name
from . import asks, audit, connections_sql, rights, totals, work_rules

#: The fields of a channel that can be changed later.
CHANGEABLE = ("description", "metadata", "type", "ephemeral", "retention_count", "retention_age", "work", "presence")


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
    work: Mapping[str, Any] | None = None,
    presence: str | None = None,
    hardcoded: bool = False,
    door: str = "socket",
) -> Channel:
    """Create a channel, and its room if that is missing. ``work`` is the rule of a work channel (``shapes.WorkRule``).

    ``presence`` says what members learn of one another (``Channel.Presence``); None: as the room says.

    Admins only. Raises ``BusError`` FORBIDDEN, INVALID_NAME, CHANNEL_EXISTS, or VALIDATION_ERROR for a wrong rule.
    """
    check_channel_name(address)
    _check_presence(presence)
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
                work=None if work is None else work_rules.checked(actor, address, work, ephemeral=ephemeral),
                presence=presence,
                type=type,
                hardcoded=hardcoded,
                created_by=actor.client_id or actor.name,
                owner=actor.owner,
            )
    except IntegrityError:
        raise BusError(
            ErrorCode.CHANNEL_EXISTS, f"The channel {address} already exists.", [{"address": str(address)}]
        ) from None
    audit.record(actor, door, "create_channel", str(address))
    announce_created(channel, actor)
    return channel


def check_channel_name(address: Address) -> None:
    """Raise ``BusError`` INVALID_NAME unless clients can have a channel at this address."""
    if address.room == INBOX_ROOM or not is_name(address.room):
        raise invalid_name("room", address.room)
    if not is_name(address.channel):
        raise invalid_name("channel", address.channel)


def _check_presence(presence: str | None) -> None:
    if presence is not None and presence not in Channel.Presence.values:
        raise BusError(
            ErrorCode.VALIDATION_ERROR,
            "`presence` must be names, counts or none.",
            [{"field": "presence", "message": "This must be names, counts or none."}],
        )


def delete_channel(actor: Actor, address: Address, *, door: str = "socket") -> None:
    """Remove an empty channel with its history.

    Admins only. Raises ``BusError`` FORBIDDEN, CHANNEL_NOT_FOUND, CHANNEL_PROTECTED (built in) or CHANNEL_NOT_EMPTY.
    """
    with transaction.atomic():
        channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
        require(actor, MANAGE, address, private=bool(channel and channel.room.private))
        if channel is None:
            raise channel_not_found(address)
        if channel.hardcoded or channel.kind != Channel.Kind.CHANNEL:
            raise BusError(
                ErrorCode.CHANNEL_PROTECTED,
                f"{address} is built in and cannot be deleted.",
                [{"address": str(address)}],
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
    """Change fields of :data:`CHANGEABLE` of a channel, hardcoded or not. Return the channel.

    A channel becomes a work channel with a rule as ``work``. Messages that it has already become no jobs.

    Admins only. Raises ``BusError`` FORBIDDEN, CHANNEL_NOT_FOUND, or VALIDATION_ERROR for a rule that cannot be.
    """
    _check_presence(changes.get("presence"))
    with transaction.atomic():
        channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
        require(actor, MANAGE, address, private=bool(channel and channel.room.private))
        if channel is None or channel.kind != Channel.Kind.CHANNEL:
            raise channel_not_found(address)
        changes = _with_rule(actor, channel, changes)
        changed = [field for field in CHANGEABLE if field in changes and getattr(channel, field) != changes[field]]
        for field in changed:
            setattr(channel, field, changes[field])
        if changed:
            # A sweep removes empty channels that were created automatically. A channel that an admin changed stays.
            channel.auto_created = False
            channel.save(update_fields=[*changed, "auto_created"])
            audit.record(actor, door, "update_channel", str(address), **{field: changes[field] for field in changed})
        if "presence" in changed:
            # Each process knows the members' channel as it was. They must not be named any more from now on.
            rights.changed(f"room:{address.room}")
    return channel


def _with_rule(actor: Actor, channel: Channel, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes with a checked rule of work. The channel's row is locked, so no job comes in between."""
    rule = changes.get("work", channel.work)
    if rule is None:
        if channel.work is not None:
            Channel.objects.select_for_update(no_key=True).get(pk=channel.pk)
            work_rules.check_removal(channel)
            # The ended ones. A dead job would keep its message from the retention, and nobody could retry it.
            channel.jobs.all()._raw_delete(using="default")
        return changes
    if "work" not in changes and not changes.get("ephemeral"):
        return changes
    ephemeral = changes.get("ephemeral", channel.ephemeral)
    return {**changes, "work": work_rules.checked(actor, channel.address, rule, ephemeral=ephemeral)}


def check_empty(channel: Channel) -> None:
    """Raise ``BusError`` CHANNEL_NOT_EMPTY when connected clients are members. Costs a query."""
    members = list(
        Membership.objects.filter(channel=channel, client__node__isnull=False).values_list(
            "client__client_id", flat=True
        )[:100]
    )
    if members:
        raise BusError(
            ErrorCode.CHANNEL_NOT_EMPTY,
            f"{channel.address} has {len(members)} members. Only an empty channel can be deleted.",
            [{"participants": members}],
        )


def remove(channel: Channel) -> None:
    """Remove a channel with its log inside the caller's transaction. The function checks neither rights nor members."""
    address, channel_id = channel.address, channel.id
    # A part locks only its stream, so one on its way would leave a row without a stream. Channels are locked before streams.
    list(Channel.objects.filter(pk=channel_id).select_for_update().values_list("pk"))
    list(channel.streams.order_by("id").select_for_update().values_list("pk"))
    # First in bulk: Django's collector would load a million messages and delete them one by one.
    for rows in (StreamPart.objects, StreamSteer.objects):
        rows.filter(stream__channel=channel)._raw_delete(using="default")
    channel.streams.all()._raw_delete(using="default")
    asks.end_in(channel)
    channel.jobs.all()._raw_delete(using="default")
    # Requests that wait for one find out at their next look.
    channel.decisions.all()._raw_delete(using="default")
    channel.messages.all()._raw_delete(using="default")
    channel.delete()
    # The total of all messages stays the same when their channel goes.
    totals.add({"messages": channel.head})
    dispatch.notify_on_commit(notifications.ChannelChanged(address.room, address.channel, deleted=channel_id))


def participants(channel_ids: list[int]) -> dict[int, int]:
    """Return the number of connected clients that are members, by channel id, over all processes."""
    counted = connections_sql.statements().participants(channel_ids) if channel_ids else {}
    return {channel_id: members for channel_id, members in counted.items() if members}


def presence_for(actor: Actor, presence: str | None, address: Address, *, private: bool) -> str:
    """Return what ``actor`` learns of the members of a channel with this ``presence``: ``names``, ``counts`` or ``none``.

    Those who manage the channel learn the names. The right to presence is checked elsewhere.
    """
    if presence in (None, Channel.Presence.NAMES) or can(actor, MANAGE, address, private=private):
        return str(Channel.Presence.NAMES.value)
    return str(presence)


def may_see(actor: Actor, channel: Channel) -> bool:
    """Return whether ``actor`` may know that the channel exists."""
    address, private = channel.address, channel.room.private
    return any(can(actor, action, address, private=private) for action in (JOIN, HISTORY))
