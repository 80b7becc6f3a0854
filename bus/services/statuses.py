"""Statuses: what clients say that they do now.

A status ends with the connection of its client, at a time of its own, or when it is replaced. A client without a connection
can have one, too. While it lasts, the client stands among the members of one channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from .. import shapes
from ..auth.permissions import JOIN, Actor, require
from ..conf.settings import default_address
from ..directory.channels import ChannelRef, ensure, ref_of
from ..directory.clients import speaker, take_id
from ..models import Client, Membership, wire_time
from ..notify import dispatch
from ..notify.messages import ClientUpdated, PresenceNotice
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import Address
from .channels import participants
from .clients import public, status_of
from .held import refer_to

#: Statuses that one sweep ends.
SWEPT = 200


class Said(msgspec.Struct, frozen=True):
    """What a client says that it does. All four empty: nothing any more. ``ttl`` is in seconds (None: no end of its own)."""

    status: str | None = None
    task: str | None = None
    text: str | None = None
    tokens: int | None = None
    ttl: float | None = None

    @property
    def nothing(self) -> bool:
        """Whether it ends the status."""
        return self.status is None and self.task is None and self.text is None and self.tokens is None


class NewStatus(msgspec.Struct, frozen=True):
    """A connected client sets its status. ``channel_ids`` are the channels whose members hear of it."""

    client_id: str
    connection_id: str
    said: Said
    channel_ids: list[int]


class Written(msgspec.Struct, frozen=True):
    """A status that was set, and the number of members of each channel by its id."""

    status: shapes.Status | None
    participants: dict[int, int]


def write(news: Sequence[NewStatus]) -> list[Written | BusError]:
    """Set the statuses of connected clients in one transaction. The newest of a client is its only write.

    Returns for each the status that the client has now, or ``BusError`` TAKEN_OVER for a connection without its id.
    """
    now = timezone.now()
    newest = {new.connection_id: new for new in news}
    with transaction.atomic():
        rows = Client.objects.filter(client_id__in={new.client_id for new in newest.values()})
        found = {
            row.connection_id: row
            for row in rows.only("id", "client_id", "connection_id").order_by("id").select_for_update(no_key=True)
            if row.connection_id in newest
        }
        for connection_id, row in found.items():
            _say(row, newest[connection_id].said, now)
        _save(found.values())
        counts = participants(list({channel_id for new in newest.values() for channel_id in new.channel_ids}))
    answers: list[Written | BusError] = []
    for new in news:
        client = found.get(new.connection_id)
        if client is None:
            answers.append(BusError(ErrorCode.TAKEN_OVER))
        else:
            here = {channel_id: counts.get(channel_id, 0) for channel_id in new.channel_ids}
            answers.append(Written(status_of(client, now), here))
    return answers


def _say(row: Client, said: Said, now: datetime) -> None:
    row.status = row.status_until = None
    if not said.nothing:
        row.status = {
            "status": said.status,
            "task": said.task,
            "text": said.text,
            "tokens": said.tokens,
            "at": wire_time(now),
        }
        row.status_until = None if said.ttl is None else now + timedelta(seconds=said.ttl)


def _save(rows: Iterable[Client]) -> None:
    rows = list(rows)
    Client.objects.bulk_update(
        [row for row in rows if row.status is not None], ["status", "status_until"], batch_size=200
    )
    # A bulk update would write the JSON value `null`.
    if ended := [row.pk for row in rows if row.status is None]:
        Client.objects.filter(pk__in=ended).update(status=None, status_until=None)


# --- clients without a connection ---------------------------------------------------------------------------------------


def set_status(actor: Actor, client_id: str, said: Said, *, channel: Address | None = None) -> shapes.StatusOf:
    """Set the status of a client of the actor's principal, connected or not. Without one it needs a ``ttl``.

    A client without a connection stands among the members of ``channel`` as long as its status lasts (None: the channel
    where clients begin).

    Raises ``BusError`` FORBIDDEN, CLIENT_ID_IN_USE, INVALID_NAME, LIMIT_REACHED, CHANNEL_NOT_FOUND, UNAVAILABLE.
    """
    if actor.anonymous:
        raise BusError(ErrorCode.FORBIDDEN, "Authenticate to set a status.")
    speaking, new = speaker(actor, client_id)
    now = timezone.now()
    with transaction.atomic():
        if new and not said.nothing:
            take_id(speaking)
        row = Client.objects.select_for_update(no_key=True, of=("self",)).filter(client_id=client_id).first()
        if row is None:
            return shapes.StatusOf(client_id=client_id, status=None)
        left: list[ChannelRef] = []
        if row.node_id is None:
            left = _stand_in(row, None if said.nothing else _place(speaking, channel))
        _say(row, said, now)
        _save([row])
        _announce([row], now, left={row.pk: left})
    return shapes.StatusOf(client_id=client_id, status=status_of(row, now))


def _place(actor: Actor, channel: Address | None) -> ChannelRef:
    """Return the channel that a client without a connection stands in."""
    address = channel or default_address()
    ref, _ = ensure(address, actor, create=False)
    require(actor, JOIN, address, private=ref.private)
    if not address.is_channel:
        raise BusError(ErrorCode.INVALID_NAME, f"{address} is not a channel.", [{"field": "channel"}])
    free, _ = refer_to({ref.id})
    if ref.id not in free:
        raise BusError(ErrorCode.UNAVAILABLE, "Another transaction locks this channel. Try again.", retry_after=1.0)
    return ref


def _stand_in(row: Client, ref: ChannelRef | None) -> list[ChannelRef]:
    """Let a client without a connection stand in this channel only. Return the channels that it leaves."""
    others = Membership.objects.filter(client=row)
    if ref is not None:
        others = others.exclude(channel_id=ref.id)
    left = [ref_of(membership.channel) for membership in others.select_related("channel__room")]
    others.delete()
    if ref is not None:
        Membership.objects.bulk_create([Membership(client=row, channel_id=ref.id)], ignore_conflicts=True)
    return left


def end_overdue() -> int:
    """End the statuses whose time is over. Return how many, at most :data:`SWEPT`."""
    now = timezone.now()
    with transaction.atomic():
        overdue = Client.objects.filter(status_until__lte=now).order_by("id")
        rows = list(overdue.select_for_update(no_key=True, skip_locked=True, of=("self",))[:SWEPT])
        left = {row.pk: _stand_in(row, None) for row in rows if row.node_id is None}
        for row in rows:
            _say(row, Said(), now)
        _save(rows)
        _announce(rows, now, left=left)
    return len(rows)


def any_overdue() -> bool:
    """Return whether the time of any status is over."""
    return Client.objects.filter(status_until__lte=timezone.now()).exists()


def _announce(rows: Sequence[Client], now: datetime, *, left: dict[int, list[ChannelRef]]) -> None:
    """Notify the members of the clients' channels after the commit. Those of ``left`` channels hear of no status."""
    if not rows:
        return
    memberships = Membership.objects.filter(client__in=rows).select_related("channel__room")
    places = [(membership.client_id, ref_of(membership.channel)) for membership in memberships]
    gone = [(key, ref) for key, refs in left.items() for ref in refs]
    counts = participants([ref.id for _, ref in [*places, *gone]])
    by_key = {row.pk: row for row in rows}
    for key, ref, here in [*((*place, True) for place in places), *((*place, False) for place in gone)]:
        if ref.presence:
            row = by_key[key]
            status = msgspec.to_builtins(status_of(row, now)) if here else None
            dispatch.hand_on_commit(
                ClientUpdated(ref.id, *ref.address, counts.get(ref.id, 0), public(row), status), _notice
            )


def _notice(updated: ClientUpdated) -> PresenceNotice:
    return PresenceNotice(updated.channel_id, notice_frame(updated))


def notice_frame(updated: ClientUpdated) -> bytes:
    """Return the frame that tells the members of a channel of a client's new status."""
    address = Address(updated.room, updated.channel)
    payload: dict[str, Any] = {**updated.card, "status": updated.status}
    return frames.system("client_updated", address, **payload)
