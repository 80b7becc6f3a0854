"""The processes of the bus: their heartbeats, and the cleanup after processes that ended."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import Count, Min
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

from .. import shapes
from ..conf.settings import config
from ..directory.channels import ChannelRef, ref_of
from ..directory.inboxes import forgettable
from ..log.jobs import note_gone
from ..models import Client, Membership, Node, wire_time
from . import totals
from .channels import participants
from .clients import public


class Left(msgspec.Struct):
    """A client of a process that ended, and a channel of which it was a member."""

    card: dict[str, Any]
    ref: ChannelRef
    participants: int


def _alive_since(age: float | None = None) -> CombinedExpression:
    """Return the time after which a heartbeat counts as recent: ``age`` seconds ago (without it: the setting).

    The database computes it, because the clocks of the machines may differ.
    """
    return Now() - timedelta(seconds=config().node_timeout if age is None else age)


def heartbeats() -> dict[str, datetime]:
    """Return the last heartbeat of each process whose heartbeat is recent, by node id."""
    return dict(Node.objects.filter(heartbeat_at__gt=_alive_since()).values_list("id", "heartbeat_at"))


def alive_ids() -> set[str]:
    """Return the node ids of the processes with a recent heartbeat."""
    return set(heartbeats())


def up_since() -> datetime | None:
    """Return when the oldest living process started; None without one. While no process was up, no client could be there."""
    oldest: datetime | None = Node.objects.filter(pk__in=alive_ids()).aggregate(at=Min("started_at"))["at"]
    return oldest


def started(node_id: str, host: str, pid: int, version: str) -> None:
    """Store the row of a process that starts."""
    Node.objects.update_or_create(
        id=node_id,
        defaults={"host": host, "pid": pid, "pid_space": pid_space(), "version": version, "heartbeat_at": Now()},
    )


def pid_space() -> str:
    """Return a text that identifies the pid namespace of this machine or container; "" where the system has none."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text()[:8]}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def sweep_crashed(host: str, own_ids: Collection[str]) -> list[Left]:
    """Remove the processes of this machine that no longer run, without a wait until their heartbeats are old.

    After a server was killed and started again, a returning client then finds its id free. ``own_ids`` are the nodes of
    the calling process. Returns as :func:`sweep_dead`.
    """
    space = pid_space()
    left: list[Left] = []
    if not space:
        return left
    for node in Node.objects.filter(host=host, pid_space=space).exclude(id__in=own_ids):
        if node.pid == os.getpid() or not _runs(node):
            with transaction.atomic():
                left += _forget(node.id, node.heartbeat_at)
    return left


def _runs(node: Node) -> bool:
    """Return whether the process of a node of this machine runs. A killed one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{node.pid}/stat").read_bytes()
    except OSError:
        return False
    # The name of the program stands in parentheses, and may contain some. The state is the letter after it.
    return stat.rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"], [b"x"])


def others(own_id: str = "") -> list[str]:
    """Return the other processes that serve this database, each as "process 4711 on myhost". It leaves out crashed ones."""
    space = pid_space()
    young = (
        Node.objects.filter(heartbeat_at__gte=_alive_since())
        .exclude(id=own_id)
        .exclude(pid=os.getpid(), pid_space=space)
    )
    return [
        f"process {node.pid} on {node.host}" for node in young if not space or node.pid_space != space or _runs(node)
    ]


def alive_hosts() -> list[str]:
    """Return the machines of the processes with a recent heartbeat, one entry for each process."""
    return list(Node.objects.filter(heartbeat_at__gte=_alive_since()).values_list("host", flat=True))


def beat(node_id: str, host: str, pid: int, version: str, stats: dict[str, Any], counts: dict[str, int]) -> bool:
    """Store a heartbeat with the node's figures, and add ``counts`` to the totals.

    Returns False when another process had removed this node. Its clients then have no rows as connected clients.
    """
    updated = Node.objects.filter(id=node_id).update(heartbeat_at=Now(), stats=stats)
    totals.add(counts)
    if not updated:
        started(node_id, host, pid, version)
    return bool(updated)


def connections_of(node_id: str) -> set[str]:
    """Return the ``connection_id`` of every client that the database shows as connected to a node."""
    return set(Client.objects.filter(node_id=node_id).values_list("connection_id", flat=True))


def connected_as(client_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return the clients that the database shows as connected to any node, each with the order of its last claim."""
    rows = Client.objects.filter(client_id__in=client_ids, node__isnull=False)
    return {name: (key, number) for name, key, number in rows.values_list("client_id", "id", "claims")}


def stopped(node_id: str) -> list[Left]:
    """Remove a process that stops. Returns the clients that were connected to it, once for each channel."""
    with transaction.atomic():
        return _forget(node_id, timezone.now())


def _forget(node_id: str, since: datetime) -> list[Left]:
    """Remove a process. Its clients are gone ``since``, which is the last sign of life of a process that was killed."""
    clients = list(Client.objects.filter(node_id=node_id).prefetch_related("memberships__channel__room"))
    gone = [(public(client), m.channel) for client in clients for m in client.memberships.all()]
    note_gone({client.client_id for client in clients}, since)
    Membership.objects.filter(client__node_id=node_id).delete()
    forgettable(Client.objects.filter(node_id=node_id)).delete()
    Client.objects.filter(node_id=node_id).update(
        node=None, connection_id="", disconnected_at=since, status=None, status_until=None
    )
    Node.objects.filter(id=node_id).delete()
    counts = participants(list({channel.id for _, channel in gone}))
    return [Left(card, ref_of(channel), counts.get(channel.id, 0)) for card, channel in gone]


def sweep_dead(age: float | None = None) -> list[Left]:
    """Remove the processes whose last heartbeat is at least ``age`` seconds old (without it: the setting).

    Returns the clients that were connected to them, once for each channel. The caller must know that the database was
    reachable for that long: after an outage every heartbeat is old.
    """
    dead = Node.objects.filter(heartbeat_at__lte=_alive_since(age))
    left: list[Left] = []
    for node_id in list(dead.values_list("id", flat=True)):
        with transaction.atomic():
            # If another process is about to remove the node, this one skips it without a wait.
            node = dead.select_for_update(skip_locked=True).filter(id=node_id).first()
            if node is not None:
                left += _forget(node_id, node.heartbeat_at)
    return left


def rows() -> list[shapes.Process]:
    """Return the processes of the bus, oldest first."""
    alive = alive_ids()
    return [
        shapes.Process(
            id=node.id,
            host=node.host,
            pid=node.pid,
            version=node.version,
            started_at=wire_time(node.started_at),
            heartbeat_at=wire_time(node.heartbeat_at),
            alive=node.id in alive,
            clients=connected,
            stats=node.stats,
        )
        for node, connected in ((node, node.connected) for node in Node.objects.annotate(connected=Count("clients")))
    ]
