"""The channels of a room for those who follow it (``node.clients.observers``)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import QuerySet

from ..auth.permissions import JOIN, Actor, can
from ..directory.channels import ChannelRef, ref_of
from ..models import Channel, Room
from .visibility import channels_for

#: Rows read at a time, where hidden channels may be among them.
CHUNK = 500

#: A channel that was made so long before another moment may have been made in a transaction that ended after it.
SLOW_COMMIT = timedelta(seconds=60)


class Found(NamedTuple):
    """A channel of a followed room, or the log of the whole room."""

    ref: ChannelRef
    created_at: datetime


class Scan(NamedTuple):
    """The channels of a room that an actor may join, with the latest activity first, and then the log of the whole room.

    ``newest`` is the largest id of any channel before they were read. ``truncated`` says that there are more.
    """

    newest: int
    found: list[Found]
    truncated: bool


def joinable(actor: Actor, room: str, limit: int) -> Scan:
    """Return at most ``limit`` channels of ``room`` that ``actor`` may join.

    The room's log is the last one, if the actor may join it or any channel. A hidden room and a missing one have the same
    answer, for the same queries.
    """
    newest = newest_id()
    rows = _with_room().filter(channels_for(actor, (JOIN,)), room__name=room, kind=Channel.Kind.CHANNEL)
    found: list[Found] = []
    truncated = False
    for channel in rows.order_by("-touched_at", "id").iterator(chunk_size=CHUNK):
        if not can(actor, JOIN, channel.address, private=channel.room.private):
            continue
        if len(found) >= limit:
            truncated = True
            break
        found.append(Found(ref_of(channel), channel.created_at))
    log = _with_room().filter(room__name=room, kind=Channel.Kind.ROOM).first()
    if log is not None and (found or can(actor, JOIN, log.address, private=log.room.private)):
        found.append(Found(ref_of(log), log.created_at))
    return Scan(newest, found, truncated)


def newest_id() -> int:
    """Return the largest id of a channel, 0 for none."""
    return Channel.objects.order_by("-id").values_list("id", flat=True).first() or 0


def made_after(channel_id: int) -> list[tuple[int, str]]:
    """Return the channels with a larger id, each as its id and the name of its room. Inboxes are among them."""
    return list(Channel.objects.filter(id__gt=channel_id).order_by("id").values_list("id", "room__name"))


def by_ids(channel_ids: Collection[int]) -> list[Found]:
    """Return those of the channels and logs of whole rooms that exist."""
    kinds = (Channel.Kind.CHANNEL, Channel.Kind.ROOM)
    rows = _with_room().filter(id__in=channel_ids, kind__in=kinds)
    return [Found(ref_of(channel), channel.created_at) for channel in rows.order_by("id")]


def came_later(found: Collection[Found], placed: Collection[str], known: Collection[int]) -> set[int]:
    """Return the ids of the channels that a follower with positions has no position of because they came after these.

    ``placed`` are the names with a position. ``known`` are the ids of the channels whose position is one of their log. A
    follower has positions of all that it followed, so a channel without one came later where it is younger than all of these.
    """
    if not placed:
        return set()
    times = [one.created_at - SLOW_COMMIT for one in found if one.ref.id in known]
    without = [one for one in found if one.ref.address.channel not in placed]
    return {one.ref.id for one in without if not times or one.created_at > max(times)}


def privacy(rooms: Collection[str]) -> dict[str, bool]:
    """Return which of the rooms are private. A missing one is left out."""
    return dict(Room.objects.filter(name__in=rooms).values_list("name", "private"))


def _with_room() -> QuerySet[Channel]:
    return Channel.objects.select_related("room").defer("metadata")
