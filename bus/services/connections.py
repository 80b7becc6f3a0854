"""Connections take and release client ids and memberships.

:func:`apply` applies the changes of many connections in one transaction. The thread that writes the log calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from ..directory.inboxes import forgettable
from ..models import Channel, Client, Membership
from .channels import participants
from .claims import Claim, Raced
from .held import ChannelHeld, refer_to
from .ownership import claim


class Join(msgspec.Struct):
    """A connected client becomes a member of a channel.

    The answer is the channel's number of members, or None if the channel no longer exists. If another transaction holds
    the channel's row, the answer is a :class:`ChannelHeld`.
    """

    client_id: str
    connection_id: str
    channel_id: int


class Leave(msgspec.Struct):
    """A connected client leaves a channel. The answer is the channel's number of members."""

    client_id: str
    connection_id: str
    channel_id: int


class Release(msgspec.Struct):
    """A connection that was a member of ``channel_ids`` has ended.

    The answer is the number of remaining members by channel id. It leaves out channels that the client is still in,
    because a newer connection in any process may have taken over.
    """

    client_id: str
    connection_id: str
    last_activity: datetime
    channel_ids: list[int] = []


#: How often an operation is tried when a concurrent change makes it fail.
TRIES = 2

Operation = Claim | Join | Leave | Release


def apply(operations: Sequence[Operation]) -> list[Any]:
    """Carry out the operations in one transaction. Return the answer of each, or the exception that it met."""
    if len(operations) == 1:
        return [_alone(operations[0])]
    try:
        answers = _apply(operations)
    except (IntegrityError, DataError):
        # A channel was removed meanwhile, or a value does not fit. Only the operation at fault may fail, so each is tried
        # alone.
        return [_alone(operation) for operation in operations]
    return [
        _alone(operation) if isinstance(answer, Raced) else answer
        for operation, answer in zip(operations, answers, strict=True)
    ]


def _alone(operation: Operation) -> Any:
    """Carry out one operation in a transaction of its own. Return its answer, or the exception that it met."""
    problem: Exception = IntegrityError("Other processes claim this client id again and again.")
    for _ in range(TRIES):
        try:
            (answer,) = _apply([operation])
        except (IntegrityError, DataError) as met:
            problem = met
            continue
        if not isinstance(answer, Raced):
            return answer
    return problem


def _apply(operations: Sequence[Operation]) -> list[Any]:
    answers: list[Any] = [None] * len(operations)
    with transaction.atomic():
        releases = [(i, o) for i, o in enumerate(operations) if isinstance(o, Release)]
        # A connection that has ended already must not get an id afterwards.
        over = {release.connection_id for _, release in releases}
        claims = [(i, o) for i, o in enumerate(operations) if isinstance(o, Claim) and o.connection_id not in over]
        if releases:
            for i, answer in _release(releases).items():
                answers[i] = answer
        if claims:
            for i, answer in claim(claims).items():
                answers[i] = answer
        moves = [(i, o) for i, o in enumerate(operations) if isinstance(o, (Join, Leave))]
        if moves:
            for i, answer in _move(moves).items():
                answers[i] = answer
    return answers


def _release(releases: list[tuple[int, Release]]) -> dict[int, Any]:
    now = timezone.now()
    gone = {release.connection_id: release for _, release in releases}
    clients = list(Client.objects.filter(connection_id__in=list(gone)))
    if clients:
        Membership.objects.filter(client__in=clients).delete()
        going = _going(clients)
        Client.objects.filter(pk__in=going).delete()
        lasting = [client for client in clients if client.pk not in going]
        for client in lasting:
            client.node = None
            client.last_activity = gone[client.connection_id].last_activity
            client.connection_id = ""
            client.disconnected_at = now
        Client.objects.bulk_update(
            lasting, ["node", "last_activity", "connection_id", "disconnected_at"], batch_size=200
        )
        said = [client.pk for client in lasting if client.status is not None]
        if said:
            Client.objects.filter(pk__in=said).update(status=None, status_until=None)
    channel_ids = {channel_id for _, release in releases for channel_id in release.channel_ids}
    counts = participants(list(channel_ids))
    _note_empty(channel_ids, counts)
    # A connection that took over has the same client_id and another connection_id.
    still_there = set(
        Membership.objects.filter(
            client__client_id__in={release.client_id for _, release in releases}, channel_id__in=channel_ids
        ).values_list("client__client_id", "channel_id")
    )
    return {
        i: {
            channel_id: counts.get(channel_id, 0)
            for channel_id in release.channel_ids
            if (release.client_id, channel_id) not in still_there
        }
        for i, release in releases
    }


def _going(clients: Sequence[Client]) -> set[int]:
    """Return the keys of the clients whose rows go with their connections."""
    generated = [client.pk for client in clients if client.generated]
    if not generated:
        return set()
    return set(forgettable(Client.objects.filter(pk__in=generated)).values_list("pk", flat=True))


def _move(moves: list[tuple[int, Join | Leave]]) -> dict[int, Any]:
    answers: dict[int, Any] = {}
    ids = dict(
        Client.objects.filter(connection_id__in={move.connection_id for _, move in moves}).values_list(
            "connection_id", "id"
        )
    )
    final: dict[tuple[int, int], bool] = {}
    for _, move in moves:
        if move.connection_id in ids:
            final[(ids[move.connection_id], move.channel_id)] = isinstance(move, Join)
    joined = [Membership(client_id=client, channel_id=channel) for (client, channel), here in final.items() if here]
    free, held = refer_to({move.channel_id for _, move in moves if isinstance(move, Join)})
    if joined:
        Membership.objects.bulk_create([m for m in joined if m.channel_id in free], ignore_conflicts=True)
    left = Q()
    for (client, channel), here in final.items():
        if not here:
            left |= Q(client_id=client, channel_id=channel)
    if left:
        Membership.objects.filter(left).delete()
    counts = participants([move.channel_id for _, move in moves])
    _note_empty({move.channel_id for _, move in moves if isinstance(move, Leave)}, counts)
    for i, move in moves:
        if isinstance(move, Join) and move.channel_id not in free:
            answers[i] = ChannelHeld() if move.channel_id in held else None
        else:
            answers[i] = counts.get(move.channel_id, 0)
    return answers


def _note_empty(channel_ids: set[int], counts: dict[int, int]) -> None:
    """Restart the idle time of channels that are empty now (``services.sweeping.sweep_channels``)."""
    emptied = [channel_id for channel_id in channel_ids if not counts.get(channel_id)]
    if emptied:
        # A transaction that holds one of the rows is about to write to it. Skipping the row avoids a wait and a deadlock.
        locking = Channel.objects.select_for_update(no_key=True, skip_locked=True)
        rows = locking.filter(id__in=emptied, auto_created=True).order_by("id")
        Channel.objects.filter(id__in=[row.id for row in rows.only("id")]).update(touched_at=timezone.now())


def touch(activity: dict[str, datetime]) -> None:
    """Store the time of the last activity of connections, given by ``connection_id``."""
    rows = list(Client.objects.filter(connection_id__in=list(activity)).only("id", "connection_id"))
    for row in rows:
        row.last_activity = activity[row.connection_id]
    Client.objects.bulk_update(rows, ["last_activity"], batch_size=200)
