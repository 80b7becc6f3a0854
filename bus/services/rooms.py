"""Rooms as a whole: make, change, remove, list (REST and the admin; channels bring their rooms by themselves)."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, QuerySet

from ..models import Channel, Membership, Room, wire_time
from ..permissions import HISTORY, JOIN, MANAGE, Actor, can, require
from ..protocol.errors import BusError
from ..protocol.names import INBOX_ROOM, WHOLE, is_name, whole_room
from ..protocol.routing import invalid_name
from . import audit
from .channels import check_empty, may_see, remove

#: What of a room can be changed.
CHANGEABLE = ("description", "private", "presence")


def create_room(
    actor: Actor,
    name: str,
    *,
    description: str = "",
    private: bool = False,
    presence: bool | None = None,
    door: str,
) -> Room:
    """Make an empty room. Admins only; raises ``BusError`` FORBIDDEN, INVALID_NAME or ROOM_EXISTS."""
    if not is_name(name) or name == INBOX_ROOM:
        raise invalid_name("room", name)
    require(actor, MANAGE, whole_room(name), private=False)
    try:
        with transaction.atomic():
            room = Room.objects.create(
                name=name,
                description=description,
                private=private,
                presence=presence,
                created_by=actor.client_id or actor.name,
            )
            audit.record(actor, door, "create_room", name, private=private)
    except IntegrityError:
        raise BusError("ROOM_EXISTS", f"The room {name} exists already.", [{"room": name}]) from None
    return room


def update_room(actor: Actor, name: str, changes: dict[str, Any], *, door: str) -> Room:
    """Change fields of :data:`CHANGEABLE`. Admins only; raises ``BusError`` FORBIDDEN or ROOM_NOT_FOUND.

    Connections that may no longer be in a room that became private are taken out of it, on every process.
    """
    with transaction.atomic():
        room = _managed(actor, name)
        changed = [field for field in CHANGEABLE if field in changes and getattr(room, field) != changes[field]]
        for field in changed:
            setattr(room, field, changes[field])
        if changed:
            room.save(update_fields=changed)
            audit.record(actor, door, "update_room", name, **{field: changes[field] for field in changed})
    return room


def delete_room(actor: Actor, name: str, *, door: str) -> None:
    """Remove a room with its channels and their history, if nobody is in any of them.

    Admins only. Raises ``BusError`` FORBIDDEN, ROOM_NOT_FOUND, CHANNEL_PROTECTED (it, or one of its channels, is built in)
    or CHANNEL_NOT_EMPTY.
    """
    with transaction.atomic():
        room = _managed(actor, name)
        protected = [channel.name for channel in room.channels.filter(hardcoded=True).exclude(name=WHOLE)]
        if room.hardcoded or protected:
            raise BusError(
                "CHANNEL_PROTECTED", f"The room {name} is built in and stays.", [{"room": name, "channels": protected}]
            )
        channels = list(room.channels.select_related("room"))
        for channel in channels:
            check_empty(channel)
        for channel in channels:
            remove(channel)
        room.delete()
        audit.record(actor, door, "delete_room", name, channels=sum(c.kind == Channel.Kind.CHANNEL for c in channels))


def _managed(actor: Actor, name: str) -> Room:
    """The room, for whoever may manage it."""
    room = next(iter(_visible(actor, _named(name))), None)
    if room is None:
        raise BusError("ROOM_NOT_FOUND", f"There is no room {name}.", [{"room": name}])
    require(actor, MANAGE, whole_room(name), private=room.private)
    return room


# --- looking ----------------------------------------------------------------------------------------------------------


def page(actor: Actor, rooms: QuerySet[Room], *, after: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """The rows of the rooms that ``actor`` may know of, in order of their names from behind ``after``, and the next cursor."""
    rooms = rooms.exclude(name__in=(INBOX_ROOM, WHOLE)).order_by("name")
    seen: list[Room] = []
    while len(seen) <= limit:
        batch = list(rooms.filter(name__gt=after)[: limit + 1])
        seen += _visible(actor, batch)
        if len(batch) <= limit:
            break
        after = batch[-1].name
    return rows(actor, seen[:limit]), seen[limit - 1].name if len(seen) > limit else None


def get(actor: Actor, name: str) -> dict[str, Any]:
    """One room's row. Raises ``BusError`` ROOM_NOT_FOUND, also where the actor may not know of it."""
    found = _visible(actor, _named(name))
    if not found:
        raise BusError("ROOM_NOT_FOUND", f"There is no room {name}.", [{"room": name}])
    return rows(actor, found)[0]


def _named(name: str) -> list[Room]:
    return list(Room.objects.filter(name=name)) if is_name(name) and name != INBOX_ROOM else []


def _visible(actor: Actor, rooms: list[Room]) -> list[Room]:
    """Those that ``actor`` may know of: by the room, or by one of its channels. One query at most."""
    open_to = {
        room.pk
        for room in rooms
        if not room.private
        or any(can(actor, action, whole_room(room.name), private=True) for action in (JOIN, HISTORY))
    }
    closed = [room.pk for room in rooms if room.pk not in open_to]
    if closed:
        for channel in Channel.objects.filter(room__in=closed, kind=Channel.Kind.CHANNEL).select_related("room"):
            if channel.room_id not in open_to and may_see(actor, channel):
                open_to.add(channel.room_id)
    return [room for room in rooms if room.pk in open_to]


def rows(actor: Actor, rooms: list[Room]) -> list[dict[str, Any]]:
    """What is told of rooms, with figures: channels that ``actor`` may know of, and connected clients."""
    ids = [room.pk for room in rooms]
    channels: dict[int, int] = {}
    for channel in Channel.objects.filter(room__in=ids, kind=Channel.Kind.CHANNEL).select_related("room"):
        channels[channel.room_id] = channels.get(channel.room_id, 0) + may_see(actor, channel)
    people = dict(
        Membership.objects.filter(channel__room__in=ids, client__node__isnull=False)
        .values("channel__room")
        .annotate(clients=Count("client", distinct=True))
        .values_list("channel__room", "clients")
    )
    return [
        {
            "room": room.name,
            "description": room.description,
            "private": room.private,
            "presence": room.presence,
            "hardcoded": room.hardcoded,
            "created_at": wire_time(room.created_at),
            "created_by": room.created_by,
            "channels": channels.get(room.pk, 0),
            "participants": people.get(room.pk, 0),
        }
        for room in rooms
    ]
