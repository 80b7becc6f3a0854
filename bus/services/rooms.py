"""Rooms as a whole: create, change, remove and list them. REST and the admin use it."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet

from .. import shapes
from ..auth.permissions import MANAGE, Actor, require
from ..models import Channel, Membership, Room, wire_time
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, WHOLE, is_name, whole_room
from ..protocol.routing import invalid_name
from . import audit
from .channels import check_empty, may_see, remove
from .visibility import by_room, channels_for, rooms_for, sees_room
from .walking import sealed, unsealed, walk

#: Channels that one question about rooms may check, where permissions differ within a room.
MOST_CHANNELS = 1_000

#: The fields of a room that can be changed.
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
    """Create an empty room. Admins only; raises ``BusError`` FORBIDDEN, INVALID_NAME or ROOM_EXISTS."""
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
        raise BusError(ErrorCode.ROOM_EXISTS, f"The room {name} already exists.", [{"room": name}]) from None
    return room


def update_room(actor: Actor, name: str, changes: dict[str, Any], *, door: str) -> Room:
    """Change fields of :data:`CHANGEABLE`. Admins only; raises ``BusError`` FORBIDDEN or ROOM_NOT_FOUND.

    If the room becomes private, every process removes connections that may no longer be in it.
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


def is_private_room(name: str) -> bool:
    """Return whether a room is private. A removed room counts as private, because its state is unknown."""
    private = Room.objects.filter(name=name).values_list("private", flat=True).first()
    return private is None or private


def delete_room(actor: Actor, name: str, *, door: str) -> None:
    """Remove a room with its channels and their history, if none of them has members.

    Admins only. Raises ``BusError`` FORBIDDEN, ROOM_NOT_FOUND or CHANNEL_NOT_EMPTY. Raises CHANNEL_PROTECTED if the room
    or one of its channels is built in.
    """
    with transaction.atomic():
        room = _managed(actor, name)
        protected = [channel.name for channel in room.channels.filter(hardcoded=True).exclude(name=WHOLE)]
        if room.hardcoded or protected:
            raise BusError(
                ErrorCode.CHANNEL_PROTECTED,
                f"The room {name} is built in and cannot be deleted.",
                [{"room": name, "channels": protected}],
            )
        channels = list(room.channels.select_related("room"))
        for channel in channels:
            check_empty(channel)
        for channel in channels:
            remove(channel)
        room.delete()
        audit.record(actor, door, "delete_room", name, channels=sum(c.kind == Channel.Kind.CHANNEL for c in channels))


def _managed(actor: Actor, name: str) -> Room:
    """Return the room if ``actor`` may manage it. Raises ``BusError`` FORBIDDEN or ROOM_NOT_FOUND."""
    room = next(iter(_visible(actor, _named(name))), None)
    if room is None:
        raise BusError(ErrorCode.ROOM_NOT_FOUND, f"There is no room {name}.", [{"room": name}])
    require(actor, MANAGE, whole_room(name), private=room.private)
    return room


# --- pages of rooms ---------------------------------------------------------------------------------------------------


def page(actor: Actor, rooms: QuerySet[Room], *, after: str, limit: int) -> tuple[list[shapes.Room], str | None]:
    """Return the rows of the rooms that ``actor`` may see, ordered by name, and the cursor of the next page.

    The page begins behind ``after``. Raises ``BusError`` INVALID_NAME for an ``after`` that is not a cursor.
    """
    place = unsealed(after)
    if place is None:
        raise invalid_name("after", after, "`after` must be the `next` of a page.")
    rooms = rooms.filter(Q(private=False) | rooms_for(actor)).exclude(name__in=(INBOX_ROOM, WHOLE))
    seen, more, shown = walk(rooms, ("name",), (place,), limit, lambda batch: _visible(actor, batch))
    return rows(actor, seen), None if more is None else more[0] if shown else sealed(more[0])


def get(actor: Actor, name: str) -> shapes.Room:
    """Return one room's row. Raises ``BusError`` ROOM_NOT_FOUND, also where the actor may not see it."""
    for found in _visible(actor, _named(name)):
        if found is not None:
            return rows(actor, [found])[0]
    raise BusError(ErrorCode.ROOM_NOT_FOUND, f"There is no room {name}.", [{"room": name}])


def _named(name: str) -> list[Room]:
    return list(Room.objects.filter(name=name)) if is_name(name) and name != INBOX_ROOM else []


def _visible(actor: Actor, rooms: list[Room]) -> list[Room | None]:
    """Return the first of the rooms, with None for each that ``actor`` may not see.

    The right to see a room comes from the room or from one of its channels. The function makes at most one query of
    :data:`MOST_CHANNELS` channels. It returns as many rooms as these channels decide.
    """
    open_to = {room.pk for room in rooms if not room.private or sees_room(actor, room.name, private=True)}
    # A missing room costs the same query as a hidden one, so that the time of a refusal reveals nothing.
    closed = [room.pk for room in rooms if room.pk not in open_to] or ([] if rooms else [0])
    if closed and not by_room(actor):
        channels = Channel.objects.filter(channels_for(actor), room__in=closed, kind=Channel.Kind.CHANNEL)
        channels = channels.select_related("room").defer("metadata").order_by("room__name", "name")
        looked = list(channels[:MOST_CHANNELS])
        open_to |= {channel.room_id for channel in looked if may_see(actor, channel)}
        if len(looked) == MOST_CHANNELS:
            # The rooms behind the last channel are undecided. The last channel's room counts as decided, so that the list
            # advances.
            rooms = rooms[: [room.pk for room in rooms].index(looked[-1].room_id) + 1]
    return [room if room.pk in open_to else None for room in rooms]


def rows(actor: Actor, rooms: list[Room]) -> list[shapes.Room]:
    """Return the rows of rooms, with the number of channels that ``actor`` may see and of connected clients."""
    ids = [room.pk for room in rooms]
    channels = _channels(actor, rooms)
    members = Membership.objects.filter(channel__room__in=ids, client__node__isnull=False)
    if not actor.manages:
        members = members.exclude(channel__presence=Channel.Presence.NONE)
    people = dict(
        members.values("channel__room")
        .annotate(clients=Count("client", distinct=True))
        .values_list("channel__room", "clients")
    )
    return [
        shapes.Room(
            room=room.name,
            description=room.description,
            private=room.private,
            presence=room.presence,
            hardcoded=room.hardcoded,
            created_at=wire_time(room.created_at),
            created_by=room.created_by,
            channels=channels.get(room.pk, 0),
            participants=people.get(room.pk, 0),
        )
        for room in rooms
    ]


def _channels(actor: Actor, rooms: list[Room]) -> dict[int, int]:
    """Return how many channels of each room ``actor`` may see.

    Where permissions differ by channel, only :data:`MOST_CHANNELS` channels of all rooms are checked.
    """
    there = Channel.objects.filter(channels_for(actor), room__in=[room.pk for room in rooms], kind=Channel.Kind.CHANNEL)
    if by_room(actor):
        whole = [room.pk for room in rooms if sees_room(actor, room.name, private=room.private)]
        return dict(there.filter(room__in=whole).order_by().values_list("room").annotate(Count("id")))
    counts: dict[int, int] = {}
    for channel in there.select_related("room").defer("metadata").order_by("room__name", "name")[:MOST_CHANNELS]:
        counts[channel.room_id] = counts.get(channel.room_id, 0) + may_see(actor, channel)
    return counts
