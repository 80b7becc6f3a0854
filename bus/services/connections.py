"""Connections take and give back identities and memberships (contract §3).

The changes of many connections are applied together, in one transaction (:func:`apply`), by the thread that also writes the log.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import Count, Q
from django.utils import timezone

from .. import bells, broker, metrics
from ..conf import config
from ..models import Channel, Client, Membership, digest
from ..protocol.errors import ID_IN_USE, TAKEN_OVER, TOO_MANY, BusError, Closing
from ..protocol.names import INBOX_ROOM
from . import nodes, totals
from .channels import participants


class Claim(msgspec.Struct):
    """A connection asks for an identity and its first membership."""

    node_id: str
    connection_id: str
    client_id: str
    generated: bool
    client_type: str
    screen_name: str
    avatar: str
    personality: dict[str, Any]
    role: str
    principal: str
    resume_token: str | None
    new_token: str
    channel_id: int
    last_activity: datetime
    #: Connections that its principal may have in all processes together; 0: nobody looks (``bus.node.admission``).
    most: int = 0


class Claimed(msgspec.Struct):
    """What a claim brought: the inbox (id, head, epoch) if it has one, from where on it is its own, a token to resume with."""

    inbox: tuple[int, int, str] | None
    inbox_floor: int
    participants: int
    token: str


class Join(msgspec.Struct):
    """A connected client becomes a member of a channel.

    Answered by the channel's number of members, or None when there is no such channel any more. Raises :class:`ChannelHeld`.
    """

    client_id: str
    connection_id: str
    channel_id: int


class Leave(msgspec.Struct):
    """A connected client is no longer a member of a channel. Answered by the channel's number of members."""

    client_id: str
    connection_id: str
    channel_id: int


class Release(msgspec.Struct):
    """A connection is gone, which was a member of ``channel_ids``.

    Answered by the number of members left in each of them that the client is not in any more: a newer connection of it,
    wherever that is, may have taken over.
    """

    client_id: str
    connection_id: str
    last_activity: datetime
    channel_ids: list[int] = []


Operation = Claim | Join | Leave | Release


class ChannelHeld(Exception):
    """The answer where somebody's transaction holds the channel's row ``FOR UPDATE``: nothing was done, and nothing waited."""


def apply(operations: Sequence[Operation]) -> list[Any]:
    """Carry out the operations in one transaction; returns each one's answer, or the exception it met."""
    try:
        return _apply(operations)
    except (IntegrityError, DataError) as problem:
        # A channel went meanwhile, or a value does not fit: that is one operation's trouble, not everybody's.
        if len(operations) == 1:
            return [problem]
    return [answer for operation in operations for answer in apply([operation])]


def _apply(operations: Sequence[Operation]) -> list[Any]:
    answers: list[Any] = [None] * len(operations)
    with transaction.atomic():
        releases = [(i, o) for i, o in enumerate(operations) if isinstance(o, Release)]
        # A connection that is gone already does not come into being after its end.
        over = {release.connection_id for _, release in releases}
        claims = [(i, o) for i, o in enumerate(operations) if isinstance(o, Claim) and o.connection_id not in over]
        if releases:
            for i, answer in _release(releases).items():
                answers[i] = answer
        if claims:
            for i, answer in _claim(claims).items():
                answers[i] = answer
        moves = [(i, o) for i, o in enumerate(operations) if isinstance(o, (Join, Leave))]
        if moves:
            for i, answer in _move(moves).items():
                answers[i] = answer
    return answers


def _claim(claims: list[tuple[int, Claim]]) -> dict[int, Any]:
    answers: dict[int, Any] = {}
    now = timezone.now()
    known = {
        client.client_id: client
        for client in Client.objects.filter(client_id__in=[claim.client_id for _, claim in claims])
        .order_by("id")
        .select_for_update()
    }
    connected = _connected(claims)
    alive = nodes.alive_ids() if known else set()
    _, held = _refer_to({claim.channel_id for _, claim in claims})
    inboxes = {
        row[0]: row[1:]
        for row in Channel.objects.filter(
            room__name=INBOX_ROOM, name__in=[claim.client_id for _, claim in claims if not claim.generated]
        ).values_list("name", "id", "head", "epoch")
    }
    rows: dict[str, Client] = {}
    granted: list[tuple[int, Claim, int, str]] = []
    for i, claim in claims:
        if claim.client_id in rows:
            answers[i] = Closing(ID_IN_USE, BusError("CLIENT_ID_IN_USE"))
            continue
        if claim.channel_id in held:
            answers[i] = ChannelHeld()
            continue
        row = known.get(claim.client_id)
        here_already = row is not None and row.node_id is not None and row.principal == claim.principal
        if claim.most and not here_already:
            if connected.get(claim.principal, 0) >= claim.most:
                answers[i] = too_many("connections_per_principal", f"You have {claim.most} connections already.")
                continue
            connected[claim.principal] = connected.get(claim.principal, 0) + 1
        floor, since, token = 0, now, claim.new_token
        if row is not None:
            refusal, proven, by_token = _judge(row, claim, now, connected=row.node_id in alive)
            if refusal is not None:
                answers[i] = refusal
                continue
            if proven:
                floor, since = row.inbox_floor, row.proven_since
            else:
                floor = inboxes.get(claim.client_id, (0, 0, ""))[1]
            if by_token and claim.resume_token:
                # The same one stays good: were it exchanged, a client whose answer is lost on the way would have no proof.
                token = claim.resume_token
        rows[claim.client_id] = Client(
            client_id=claim.client_id,
            client_type=claim.client_type,
            screen_name=claim.screen_name,
            avatar=claim.avatar,
            personality=claim.personality,
            role=claim.role,
            principal=claim.principal,
            generated=claim.generated,
            node_id=claim.node_id,
            connection_id=claim.connection_id,
            resume_digest=digest(token),
            inbox_floor=floor,
            proven_since=since,
            connected_at=now,
            disconnected_at=None,
            last_activity=claim.last_activity,
        )
        granted.append((i, claim, floor, token))
    if not rows:
        return answers
    Client.objects.bulk_create(
        rows.values(),
        update_conflicts=True,
        unique_fields=["client_id"],
        update_fields=[
            "client_type", "screen_name", "avatar", "personality", "role", "principal", "generated", "node", "connection_id",
            "resume_digest", "inbox_floor", "proven_since", "connected_at", "disconnected_at", "last_activity",
        ],
    )  # fmt: skip
    ids = dict(Client.objects.filter(client_id__in=list(rows)).values_list("client_id", "id"))
    taken_over = [ids[name] for name, row in known.items() if name in rows]
    if taken_over:
        Membership.objects.filter(client_id__in=taken_over).delete()
    Membership.objects.bulk_create(
        [
            Membership(client_id=ids[claim.client_id], channel_id=claim.channel_id, joined_at=now)
            for _, claim, *_ in granted
        ],
        ignore_conflicts=True,
    )
    # In the transaction of the claims: the total is right after a crash, too.
    totals.add({"connections": len(granted)})
    counts = participants(list({claim.channel_id for _, claim, *_ in granted}))
    for i, claim, floor, token in granted:
        answers[i] = Claimed(inboxes.get(claim.client_id), floor, counts.get(claim.channel_id, 0), token)
    return answers


def _connected(claims: list[tuple[int, Claim]]) -> dict[str, int]:
    """The connections, in all processes, of the principals that may be near their limit."""
    principals = {claim.principal for _, claim in claims if claim.most}
    if not principals:
        return {}
    rows = Client.objects.filter(principal__in=principals, node__in=nodes.alive_ids()).values_list("principal")
    return dict(rows.annotate(Count("id")).order_by())


def too_many(limit: str, text: str) -> Closing:
    """The end (4429) of a connection beyond a limit of connections."""
    metrics.limits.labels(limit).inc()
    return Closing(TOO_MANY, BusError("LIMIT_REACHED", text, [{"limit": limit}], 5.0))


def _judge(row: Client, claim: Claim, now: datetime, *, connected: bool) -> tuple[Closing | None, bool, bool]:
    """Whether ``claim`` may have an id that exists.

    Returns a refusal or None, whether the claimant proved to be the same, and whether its resume token did so.
    """
    same_principal = bool(row.principal) and row.principal == claim.principal
    token_good = (
        claim.resume_token is not None
        and bool(row.resume_digest)
        and hmac.compare_digest(digest(claim.resume_token), row.resume_digest)
        and (row.disconnected_at is None or row.disconnected_at > now - timedelta(seconds=config().resume_window))
        and row.principal in ("", claim.principal)
    )
    proven = same_principal or token_good
    if row.principal and not proven:
        # A principal owns its client ids, connected or not; nobody else may speak under them.
        return (
            Closing(ID_IN_USE, BusError("CLIENT_ID_IN_USE", "This client_id belongs to somebody else.")),
            False,
            False,
        )
    if connected and row.connection_id != claim.connection_id:
        if not proven:
            return Closing(ID_IN_USE, BusError("CLIENT_ID_IN_USE")), False, False
        broker.ring_on_commit(
            bells.Dismiss(
                row.client_id,
                row.connection_id,
                TAKEN_OVER,
                "TAKEN_OVER",
                "A newer connection of this client took over.",
            )
        )
    return None, proven, token_good


def _release(releases: list[tuple[int, Release]]) -> dict[int, Any]:
    now = timezone.now()
    gone = {release.connection_id: release for _, release in releases}
    clients = list(Client.objects.filter(connection_id__in=list(gone)))
    if clients:
        Membership.objects.filter(client__in=clients).delete()
        Client.objects.filter(pk__in=[client.pk for client in clients if client.generated]).delete()
        lasting = [client for client in clients if not client.generated]
        for client in lasting:
            client.node = None
            client.last_activity = gone[client.connection_id].last_activity
            client.connection_id = ""
            client.disconnected_at = now
        Client.objects.bulk_update(
            lasting, ["node", "last_activity", "connection_id", "disconnected_at"], batch_size=200
        )
    channel_ids = {channel_id for _, release in releases for channel_id in release.channel_ids}
    counts = participants(list(channel_ids))
    _note_empty(channel_ids, counts)
    # Whoever took over has the same client_id and a connection of its own.
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
    free, held = _refer_to({move.channel_id for _, move in moves if isinstance(move, Join)})
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


def _refer_to(channel_ids: set[int]) -> tuple[set[int], set[int]]:
    """Those of the channels that memberships can refer to, and those of which somebody holds the row.

    On PostgreSQL a reference needs a lock (``KEY SHARE``) that a row held ``FOR UPDATE`` does not give. The insert would wait
    for it, and with it every publisher of the process, whose messages are written by the same thread.
    """
    if not channel_ids:
        return set(), set()
    there = Channel.objects.filter(id__in=channel_ids)
    if connection.vendor != "postgresql":
        return set(there.values_list("id", flat=True)), set()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM bus_channel WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE SKIP LOCKED", [list(channel_ids)]
        )
        free = {row[0] for row in cursor.fetchall()}
    missing = channel_ids - free
    return free, set(there.filter(id__in=missing).values_list("id", flat=True)) if missing else set()


def _note_empty(channel_ids: set[int], counts: dict[int, int]) -> None:
    """From now on they are idle (``services.sweeping.sweep_channels``)."""
    emptied = [channel_id for channel_id in channel_ids if not counts.get(channel_id)]
    if emptied:
        # Who holds one of the rows is about to write into it; nobody waits for that, and so never in a circle.
        locking = Channel.objects.select_for_update(no_key=True, skip_locked=True)
        rows = locking.filter(id__in=emptied, auto_created=True).order_by("id")
        Channel.objects.filter(id__in=[row.id for row in rows.only("id")]).update(touched_at=timezone.now())


def touch(activity: dict[str, datetime]) -> None:
    """Write down when connections (by ``connection_id``) were last active."""
    rows = list(Client.objects.filter(connection_id__in=list(activity)).only("id", "connection_id"))
    for row in rows:
        row.last_activity = activity[row.connection_id]
    Client.objects.bulk_update(rows, ["last_activity"], batch_size=200)
