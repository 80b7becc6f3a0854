"""Who is connected: claiming ids, memberships, and cleaning up after the dead (contract §3).

The changes of many connections are applied together, in one transaction (:func:`apply`), by the thread that also writes the log.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Collection, Container, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.db import DataError, IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .. import broker
from ..conf import config
from ..models import Channel, Client, Counter, Membership, Node, digest, wire_time
from ..permissions import PRESENCE, SYSTEM_ROOM, Actor, can, hidden, require
from ..protocol.errors import ID_IN_USE, NOT_ALLOWED, TAKEN_OVER, BusError, Closing
from ..protocol.names import CLIENT_ID_RULE, INBOX_ROOM, Address, is_client_id
from . import audit
from .channels import add_to_counters, participants, remove


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


class Claimed(msgspec.Struct):
    """What a claim brought: the inbox (id, head, epoch) if it has one, whether proof was given, and the token to resume with."""

    inbox: tuple[int, int, str] | None
    inbox_floor: int
    proven: bool
    participants: int
    token: str


class Join(msgspec.Struct):
    """A connected client becomes a member of a channel.

    Answered by the channel's number of members, or None when there is no such channel any more.
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


def _alive_since(age: float | None = None) -> CombinedExpression:
    """A younger sign of life is one of the living; by the database's clock, since those of the machines may differ."""
    return Now() - timedelta(seconds=config().node_timeout if age is None else age)


def _claim(claims: list[tuple[int, Claim]]) -> dict[int, Any]:
    answers: dict[int, Any] = {}
    now = timezone.now()
    known = {
        client.client_id: client
        for client in Client.objects.filter(client_id__in=[claim.client_id for _, claim in claims])
        .order_by("id")
        .select_for_update()
    }
    alive = set(Node.objects.filter(heartbeat_at__gt=_alive_since()).values_list("id", flat=True)) if known else set()
    inboxes = {
        row[0]: row[1:]
        for row in Channel.objects.filter(
            room__name=INBOX_ROOM, name__in=[claim.client_id for _, claim in claims if not claim.generated]
        ).values_list("name", "id", "head", "epoch")
    }
    rows: dict[str, Client] = {}
    granted: list[tuple[int, Claim, bool, int, str]] = []
    for i, claim in claims:
        if claim.client_id in rows:
            answers[i] = Closing(ID_IN_USE, BusError("CLIENT_ID_IN_USE"))
            continue
        row = known.get(claim.client_id)
        proven, floor, since, token = False, 0, now, claim.new_token
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
        granted.append((i, claim, proven, floor, token))
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
    add_to_counters({"connections": len(granted)})
    counts = participants(list({claim.channel_id for _, claim, *_ in granted}))
    for i, claim, proven, floor, token in granted:
        answers[i] = Claimed(inboxes.get(claim.client_id), floor, proven, counts.get(claim.channel_id, 0), token)
    return answers


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
            broker.Dismiss(
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
    wanted = {move.channel_id for _, move in moves if isinstance(move, Join)}
    existing = set(Channel.objects.filter(id__in=wanted).values_list("id", flat=True)) if wanted else set()
    if joined:
        Membership.objects.bulk_create([m for m in joined if m.channel_id in existing], ignore_conflicts=True)
    left = Q()
    for (client, channel), here in final.items():
        if not here:
            left |= Q(client_id=client, channel_id=channel)
    if left:
        Membership.objects.filter(left).delete()
    counts = participants([move.channel_id for _, move in moves])
    _note_empty({move.channel_id for _, move in moves if isinstance(move, Leave)}, counts)
    for i, move in moves:
        vanished = isinstance(move, Join) and move.channel_id not in existing
        answers[i] = None if vanished else counts.get(move.channel_id, 0)
    return answers


def _note_empty(channel_ids: set[int], counts: dict[int, int]) -> None:
    """From now on they are idle (``services.channels.sweep_idle``)."""
    emptied = [channel_id for channel_id in channel_ids if not counts.get(channel_id)]
    if emptied:
        # Locked in the order of the log's appends, so that two processes never wait for each other in a circle.
        rows = Channel.objects.select_for_update(no_key=True).filter(id__in=emptied, auto_created=True).order_by("id")
        Channel.objects.filter(id__in=[row.id for row in rows.only("id")]).update(touched_at=timezone.now())


def known(client_ids: Sequence[str]) -> set[str]:
    """Which of the ids there is a client for, connected or not."""
    return set(Client.objects.filter(client_id__in=list(client_ids)).values_list("client_id", flat=True))


def proven_since(client_id: str) -> datetime:
    """Since when whoever has the id proved to be the same; now for an id that nobody has."""
    found = Client.objects.filter(client_id=client_id).values_list("proven_since", flat=True).first()
    return found or timezone.now()


def inbox_floor(actor: Actor, client_id: str) -> int | None:
    """From behind which seq the inbox of ``client_id`` is ``actor``'s to read; None where the id is not its principal's."""
    if actor.anonymous:
        return None
    rows = Client.objects.filter(client_id=client_id, principal=actor.principal)
    floor: int | None = rows.values_list("inbox_floor", flat=True).first()
    return floor


def speak_as(actor: Actor, wanted: str | None = None) -> Actor:
    """``actor`` with the client id under which it speaks where it has no socket.

    That is ``wanted``, which must be its own or nobody's (it is its own from then on); without one, its name, or what its
    principal is called where the name belongs to somebody else. Anonymous clients have one for each network address, and
    choose none. Raises ``BusError`` INVALID_NAME, FORBIDDEN or CLIENT_ID_IN_USE.
    """
    if actor.anonymous:
        if wanted:
            raise BusError("FORBIDDEN", "Identify yourself to speak under a client_id of your own.")
        mark = salted_hmac("arqonbus.anonymous", actor.address).hexdigest()[:12]
        return msgspec.structs.replace(actor, client_id=f"anonymous-{mark}")
    if wanted:
        if not is_client_id(wanted):
            raise BusError("INVALID_NAME", f"`client_id` is {CLIENT_ID_RULE}", [{"field": "client_id"}])
        candidates = [wanted]
    else:
        names = (actor.name, actor.principal.replace(":", "."), f"id.{digest(actor.principal)[:24]}")
        candidates = [name for name in names if is_client_id(name)]
    for client_id in candidates:
        row, _ = Client.objects.get_or_create(
            client_id=client_id, defaults={"principal": actor.principal, "role": actor.role}
        )
        if row.principal == actor.principal:
            return msgspec.structs.replace(actor, client_id=client_id)
    raise BusError("CLIENT_ID_IN_USE", "This client_id belongs to somebody else.", [{"client_id": candidates[0]}])


def touch(activity: dict[str, datetime]) -> None:
    """Write down when connections (by ``connection_id``) were last active."""
    rows = list(Client.objects.filter(connection_id__in=list(activity)).only("id", "connection_id"))
    for row in rows:
        row.last_activity = activity[row.connection_id]
    Client.objects.bulk_update(rows, ["last_activity"], batch_size=200)


def disconnect(actor: Actor, client_id: str, *, door: str, reason: str = "") -> None:
    """Send a connected client away (4403), in whichever process it is. Raises ``BusError`` FORBIDDEN or CLIENT_NOT_FOUND."""
    if not actor.manages:
        raise BusError("FORBIDDEN", "Only admins may disconnect a client.")
    client = Client.objects.filter(client_id=client_id, node__isnull=False).first()
    if client is None:
        raise BusError("CLIENT_NOT_FOUND", f"No client {client_id!r} is connected.")
    audit.record(actor, door, "disconnect", client_id, reason=reason)
    broker.ring_on_commit(
        broker.Dismiss(
            client_id,
            client.connection_id,
            NOT_ALLOWED,
            "FORBIDDEN",
            reason or "You were sent away by an administrator.",
        )
    )


# --- nodes ------------------------------------------------------------------------------------------------------------


def node_started(node_id: str, host: str, pid: int, version: str) -> None:
    """A process begins."""
    Node.objects.update_or_create(
        id=node_id,
        defaults={"host": host, "pid": pid, "pid_space": pid_space(), "version": version, "heartbeat_at": Now()},
    )


def pid_space() -> str:
    """What tells this machine's (or container's) numbering of processes from others; "" where nothing does."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def sweep_crashed(host: str, own_ids: Collection[str]) -> list[Left]:
    """Remove the processes of this machine that are no more, without waiting for their last sign of life to grow old.

    So a client that comes back to a server which was killed and started again finds its id free. Returns as
    :func:`sweep_dead_nodes`; ``own_ids`` are the nodes of the calling process.
    """
    space = pid_space()
    left: list[Left] = []
    if not space:
        return left
    for node in Node.objects.filter(host=host, pid_space=space).exclude(id__in=own_ids):
        if node.pid == os.getpid() or not Path(f"/proc/{node.pid}").exists():
            with transaction.atomic():
                left += _forget_node(node.id)
    return left


def alive_nodes() -> list[str]:
    """The machines of the processes with a young sign of life, one entry for each process."""
    return list(Node.objects.filter(heartbeat_at__gte=_alive_since()).values_list("host", flat=True))


def node_alive(node_id: str, host: str, pid: int, version: str, stats: dict[str, Any], counts: dict[str, int]) -> bool:
    """A sign of life with the node's figures; ``counts`` are added to the totals.

    Returns False when the others had given the process up: its clients are not written down any more.
    """
    updated = Node.objects.filter(id=node_id).update(heartbeat_at=Now(), stats=stats)
    add_to_counters(counts)
    if not updated:
        node_started(node_id, host, pid, version)
    return bool(updated)


def connections_of(node_id: str) -> set[str]:
    """The ``connection_id`` of every client that is written down as connected to a node."""
    return set(Client.objects.filter(node_id=node_id).values_list("connection_id", flat=True))


class Left(msgspec.Struct):
    """A client of a process that ended, and a channel it was in."""

    card: dict[str, Any]
    address: Address
    participants: int


def node_stopped(node_id: str) -> list[Left]:
    """A process ends in order: nothing of it stays. Returns who was connected to it, once for each channel."""
    with transaction.atomic():
        return _forget_node(node_id)


def _forget_node(node_id: str) -> list[Left]:
    now = timezone.now()
    clients = list(Client.objects.filter(node_id=node_id).prefetch_related("memberships__channel__room"))
    gone = [(public(client), m.channel) for client in clients for m in client.memberships.all()]
    Membership.objects.filter(client__node_id=node_id).delete()
    Client.objects.filter(node_id=node_id, generated=True).delete()
    Client.objects.filter(node_id=node_id).update(node=None, connection_id="", disconnected_at=now)
    Node.objects.filter(id=node_id).delete()
    counts = participants(list({channel.id for _, channel in gone}))
    return [Left(card, channel.address, counts.get(channel.id, 0)) for card, channel in gone]


def sweep_dead_nodes(age: float | None = None) -> list[Left]:
    """Remove the processes whose last sign of life is ``age`` seconds old (without it: the setting).

    Returns who was connected to them, once for each channel. Whoever calls this must know that the database was there
    for that long: after an outage everybody's last sign of life is old.
    """
    dead = Node.objects.filter(heartbeat_at__lte=_alive_since(age))
    left: list[Left] = []
    for node_id in list(dead.values_list("id", flat=True)):
        with transaction.atomic():
            # Where another process is about to do it, it need not wait for us.
            if dead.select_for_update(skip_locked=True).filter(id=node_id).first() is not None:
                left += _forget_node(node_id)
    return left


def sweep_inboxes(age: float) -> int:
    """Remove the inboxes of clients that are gone for good and got nothing for ``age`` seconds; how many."""
    idle_since = timezone.now() - timedelta(seconds=age)
    abandoned = Channel.objects.select_related("room").filter(
        ~Exists(Client.objects.filter(client_id=OuterRef("name"))),
        kind=Channel.Kind.INBOX,
        touched_at__lt=idle_since,
        created_at__lt=idle_since,
    )
    swept = 0
    for channel in abandoned[:200]:
        with transaction.atomic():
            remove(channel)
        swept += 1
    return swept


def public(client: Client) -> dict[str, Any]:
    """What others may know of a client."""
    return {
        "client_id": client.client_id,
        "client_type": client.client_type,
        "screen_name": client.screen_name or None,
        "avatar": client.avatar or None,
    }


# --- status -----------------------------------------------------------------------------------------------------------


def stats() -> dict[str, int]:
    """The server's figures over all processes (contract §5, ``status``)."""
    counters = dict(Counter.objects.values_list("name", "value"))
    live = Membership.objects.filter(client__node__isnull=False)
    active = live.aggregate(channels=Count("channel", distinct=True), rooms=Count("channel__room", distinct=True))
    # The logs count themselves (a channel's head is the number of its messages ever); what is gone is in the counter. The bus's
    # messages about itself are nobody's.
    kept = Channel.objects.exclude(room__name=SYSTEM_ROOM).aggregate(total=Sum("head"))["total"] or 0
    return {
        "total_connections": counters.get("connections", 0),
        "active_connections": Client.objects.filter(node__isnull=False).count(),
        "active_rooms": active["rooms"],
        "active_channels": active["channels"],
        "total_messages": kept + counters.get("messages", 0),
    }


def list_clients(
    actor: Actor,
    *,
    limit: int,
    after: str = "",
    clients: QuerySet[Client] | None = None,
    channel: Address | None = None,
) -> tuple[list[dict[str, Any]], str | None]:
    """The connected clients in the order of their ids, from behind ``after``; and the cursor of the next page.

    Who does not administer the bus is shown the clients of the channels it may see the presence of, and itself; a client's
    channels are of those too, its personality is for admins. ``clients`` narrows them, ``channel`` to its members.
    Raises ``BusError`` CHANNEL_NOT_FOUND or FORBIDDEN for a ``channel`` without presence.
    """
    rows = (Client.objects.all() if clients is None else clients).filter(node__isnull=False).order_by("client_id")
    if channel is not None:
        found = Channel.objects.select_related("room").filter(room__name=channel.room, name=channel.channel).first()
        if found is None or found.kind == Channel.Kind.INBOX:
            raise hidden(channel)
        require(actor, PRESENCE, channel, private=found.room.private)
        rows = rows.filter(memberships__channel=found)
    own = own_ids(actor)
    seen: list[dict[str, Any]] = []
    while len(seen) <= limit:
        batch = list(rows.filter(client_id__gt=after).prefetch_related("memberships__channel__room")[: limit + 1])
        seen += [row for row in (_shown(actor, client, own) for client in batch) if row is not None]
        if len(batch) <= limit:
            break
        after = batch[-1].client_id
    return seen[:limit], seen[limit - 1]["client_id"] if len(seen) > limit else None


def get(actor: Actor, client_id: str) -> dict[str, Any]:
    """One connected client. Raises ``BusError`` CLIENT_NOT_FOUND, also where ``actor`` may not know of it."""
    rows = Client.objects.filter(node__isnull=False, client_id=client_id)
    client = rows.prefetch_related("memberships__channel__room").first() if is_client_id(client_id) else None
    shown = _shown(actor, client, own_ids(actor)) if client is not None else None
    if shown is None:
        raise BusError("CLIENT_NOT_FOUND", f"No client {client_id[:64]!r} is connected.")
    return shown


def own_ids(actor: Actor) -> dict[str, datetime | None]:
    """The client ids that belong to ``actor``, each with the time since when it is surely its own (None: always)."""
    if actor.anonymous:
        return {}
    rows = Client.objects.filter(principal=actor.principal).values_list("client_id", "proven_since", "generated")
    return {client_id: None if generated else since for client_id, since, generated in rows}


def _shown(actor: Actor, client: Client, own: Container[str]) -> dict[str, Any] | None:
    """A client as ``actor`` sees it; None when it does not."""
    seen = [
        str(m.channel.address)
        for m in client.memberships.all()
        if can(actor, PRESENCE, m.channel.address, private=m.channel.room.private)
    ]
    if not (seen or actor.manages or client.client_id in own or client.client_id == actor.client_id):
        return None
    row = {
        **public(client),
        "channels": seen,
        "connected_at": wire_time(client.connected_at),
        "last_activity": wire_time(client.last_activity),
    }
    if actor.manages:
        row["personality"] = client.personality
    return row


def nodes() -> list[dict[str, Any]]:
    """The processes of the bus, oldest first."""
    alive = set(Node.objects.filter(heartbeat_at__gt=_alive_since()).values_list("id", flat=True))
    return [
        {
            "id": node.id,
            "host": node.host,
            "pid": node.pid,
            "version": node.version,
            "started_at": wire_time(node.started_at),
            "heartbeat_at": wire_time(node.heartbeat_at),
            "alive": node.id in alive,
            "clients": connected,
            "stats": node.stats,
        }
        for node, connected in ((node, node.connected) for node in Node.objects.annotate(connected=Count("clients")))
    ]
