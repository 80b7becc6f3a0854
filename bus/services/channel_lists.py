"""Lists of visible channels, and the description of one channel."""

from __future__ import annotations

import msgspec
from django.db.models import QuerySet
from django.utils import timezone

from .. import shapes
from ..auth.permissions import JOIN, PRESENCE, Actor, can
from ..models import Channel, Membership, Room, wire_time
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import INBOX_ROOM, WHOLE, Address, parse_address, whole_room
from ..protocol.routing import channel_not_found, invalid_name
from . import marks
from .channels import may_see, participants, presence_for
from .clients import present, status_of
from .visibility import channels_for
from .walking import sealed, unsealed, walk


def describe(channel: Channel, members: int | None, mark: marks.Place | None = None) -> shapes.Channel:
    """Return the row of ``list_channels`` for a channel with ``members`` members, and with the caller's ``mark``.

    ``members`` is None for a caller that may not learn how many there are.
    """
    marked = mark is not None and mark.epoch == channel.epoch
    return shapes.Channel(
        room=channel.room.name,
        channel=channel.name,
        participants=members,
        description=channel.description,
        created_at=wire_time(channel.created_at),
        created_by=channel.created_by,
        type=channel.type,
        hardcoded=channel.hardcoded,
        ephemeral=channel.ephemeral,
        work=msgspec.UNSET if channel.work is None else msgspec.convert(channel.work, shapes.WorkRule),
        presence=msgspec.UNSET if channel.presence is None else msgspec.convert(channel.presence, shapes.Presence),
        messages=channel.head,
        last_activity=wire_time(channel.touched_at),
        unread=max(channel.head - mark.seq, 0) if marked and mark is not None else msgspec.UNSET,
    )


def list_channels(
    actor: Actor, *, room: str | None, limit: int, after: str = "", holder: str | None = None
) -> tuple[list[shapes.Channel], str | None]:
    """Return the rows of ``list_channels`` after ``after``, and the cursor of the next page.

    ``holder`` is the holder of the caller's marks; None for a caller that surely has none.
    Raises ``BusError`` ROOM_NOT_FOUND for a ``room`` that does not exist or that ``actor`` may not see. Raises
    INVALID_NAME for an ``after`` that is not a cursor.
    """
    channels = Channel.objects.all() if room is None else Channel.objects.filter(room__name=room)
    rows, cursor = page(actor, channels, after=after, limit=limit, holder=holder)
    if room is not None and not rows and not after and cursor is None:
        found = Room.objects.filter(name=room).exclude(name__in=(INBOX_ROOM, WHOLE)).first()
        if found is None or (found.private and not can(actor, JOIN, whole_room(room), private=True)):
            raise BusError(ErrorCode.ROOM_NOT_FOUND, f"There is no room {room}.", [{"room": room}])
    return rows, cursor


def active_channels(actor: Actor, *, limit: int, after: str = "") -> tuple[list[shapes.ActiveChannel], str | None]:
    """Return the channels with members that ``actor`` may see, for ``status``, and the cursor of the next page."""
    # A membership ends with its connection, so the query need not join the clients. PostgreSQL would join three tables for
    # each row while it has few statistics of them. That took minutes just after a thousand clients had connected.
    # SQLite begins with the list of a subquery. With EXISTS it would look into each channel of the bus, in their order.
    here = Channel.objects.filter(pk__in=Membership.objects.values("channel_id"))
    rows, cursor = page(actor, here, after=after, limit=limit)
    # Memberships of a killed process stay until a sweep removes the process. They do not count as participants.
    return [
        shapes.ActiveChannel(room=r.room, channel=r.channel, participants=r.participants)
        for r in rows
        if r.participants
    ], cursor


def _cursor(text: str) -> Address | None:
    if not text:
        return None
    address = parse_address(unsealed(text) or "")
    if address is None:
        raise invalid_name("after", text, "`after` must be the `next` of a page.")
    return address


def page(
    actor: Actor, channels: QuerySet[Channel], *, after: str, limit: int, holder: str | None = None
) -> tuple[list[shapes.Channel], str | None]:
    """Return the rows of the channels that ``actor`` may see, ordered by address, and the cursor of the next page.

    The page begins behind ``after``. ``holder`` as in :func:`list_channels`. Raises ``BusError`` INVALID_NAME for an
    ``after`` that is not a cursor.
    """
    channels = channels.filter(channels_for(actor), kind=Channel.Kind.CHANNEL).select_related("room").defer("metadata")

    def show(batch: list[Channel]) -> list[Channel | None]:
        return [channel if may_see(actor, channel) else None for channel in batch]

    seen, more, shown = walk(channels, ("room__name", "name"), _cursor(after), limit, show)
    counts = participants([channel.id for channel in seen])
    kept = marks.of_channels(holder, [channel.id for channel in seen]) if holder is not None and seen else {}
    rows = [
        describe(channel, _known(actor, channel, counts.get(channel.id, 0)), kept.get(channel.id)) for channel in seen
    ]
    cursor = None if more is None else ":".join(more)
    return rows, cursor if cursor is None or shown else sealed(cursor)


def _known(actor: Actor, channel: Channel, members: int) -> int | None:
    """Return the number of members, or None for an actor that may not learn it."""
    learns = presence_for(actor, channel.presence, channel.address, private=channel.room.private)
    return None if learns == Channel.Presence.NONE else members


def channel_info(actor: Actor, address: Address) -> shapes.ChannelInfo:
    """Return the result of ``channel_info``. It has participants only if the actor may see presence.

    Raises ``BusError`` CHANNEL_NOT_FOUND, also for a channel that ``actor`` may not see.
    """
    channel = Channel.objects.select_related("room").filter(room__name=address.room, name=address.channel).first()
    if channel is None or channel.kind == Channel.Kind.INBOX or not may_see(actor, channel):
        raise channel_not_found(address)
    people: list[shapes.Participant] = []
    now = timezone.now()
    private = channel.room.private
    learns = presence_for(actor, channel.presence, address, private=private)
    if learns == Channel.Presence.NAMES and can(actor, PRESENCE, address, private=private):
        memberships = (
            Membership.objects.filter(present(now, prefix="client__"), channel=channel)
            .select_related("client")
            .order_by("joined_at", "id")
        )
        people = [
            shapes.Participant(
                client_id=member.client.client_id,
                client_type=member.client.client_type,
                screen_name=member.client.screen_name or None,
                avatar=member.client.avatar or None,
                joined_at=wire_time(member.joined_at),
                last_activity=wire_time(member.client.last_activity),
                status=status_of(member.client, now),
            )
            for member in memberships[:1000]
        ]
    return shapes.ChannelInfo(
        room=address.room,
        channel=address.channel,
        participants=people,
        participant_count=_known(actor, channel, participants([channel.id]).get(channel.id, 0)),
        metadata=channel.public_metadata(),
        epoch=channel.epoch,
        seq=channel.head,
    )
