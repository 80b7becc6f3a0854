"""The processes of the bus: their signs of life, and cleaning up after those that ended."""

from __future__ import annotations

import os
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import Count
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

from .. import shapes
from ..conf.settings import config
from ..directory.channels import ChannelRef, ref_of
from ..directory.inboxes import forgettable
from ..models import Client, Membership, Node, wire_time
from . import totals
from .channels import participants
from .clients import public


class Left(msgspec.Struct):
    """A client of a process that ended, and a channel it was in."""

    card: dict[str, Any]
    ref: ChannelRef
    participants: int


def _alive_since(age: float | None = None) -> CombinedExpression:
    """A younger sign of life is one of the living; by the database's clock, since those of the machines may differ."""
    return Now() - timedelta(seconds=config().node_timeout if age is None else age)


def heartbeats() -> dict[str, datetime]:
    """The last sign of life of the processes where it is young."""
    return dict(Node.objects.filter(heartbeat_at__gt=_alive_since()).values_list("id", "heartbeat_at"))


def alive_ids() -> set[str]:
    """The processes with a young sign of life."""
    return set(heartbeats())


def started(node_id: str, host: str, pid: int, version: str) -> None:
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
    :func:`sweep_dead`; ``own_ids`` are the nodes of the calling process.
    """
    space = pid_space()
    left: list[Left] = []
    if not space:
        return left
    for node in Node.objects.filter(host=host, pid_space=space).exclude(id__in=own_ids):
        if node.pid == os.getpid() or not _runs(node):
            with transaction.atomic():
                left += _forget(node.id)
    return left


def _runs(node: Node) -> bool:
    """Whether the process of a node of this machine is there."""
    return Path(f"/proc/{node.pid}").exists()


def others(own_id: str = "") -> list[str]:
    """The other processes that serve this database, each as "process 4711 on myhost"; crashed ones are left out."""
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
    """The machines of the processes with a young sign of life, one entry for each process."""
    return list(Node.objects.filter(heartbeat_at__gte=_alive_since()).values_list("host", flat=True))


def beat(node_id: str, host: str, pid: int, version: str, stats: dict[str, Any], counts: dict[str, int]) -> bool:
    """A sign of life with the node's figures; ``counts`` are added to the totals.

    Returns False when the others had given the process up: its clients are not written down any more.
    """
    updated = Node.objects.filter(id=node_id).update(heartbeat_at=Now(), stats=stats)
    totals.add(counts)
    if not updated:
        started(node_id, host, pid, version)
    return bool(updated)


def connections_of(node_id: str) -> set[str]:
    """The ``connection_id`` of every client that is written down as connected to a node."""
    return set(Client.objects.filter(node_id=node_id).values_list("connection_id", flat=True))


def connected_as(client_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """Those of the clients that are written down as connected, wherever that is, each with the order of its last claim."""
    rows = Client.objects.filter(client_id__in=client_ids, node__isnull=False)
    return {name: (key, number) for name, key, number in rows.values_list("client_id", "id", "claims")}


def stopped(node_id: str) -> list[Left]:
    """A process ends in order: nothing of it stays. Returns who was connected to it, once for each channel."""
    with transaction.atomic():
        return _forget(node_id)


def _forget(node_id: str) -> list[Left]:
    now = timezone.now()
    clients = list(Client.objects.filter(node_id=node_id).prefetch_related("memberships__channel__room"))
    gone = [(public(client), m.channel) for client in clients for m in client.memberships.all()]
    Membership.objects.filter(client__node_id=node_id).delete()
    forgettable(Client.objects.filter(node_id=node_id)).delete()
    Client.objects.filter(node_id=node_id).update(node=None, connection_id="", disconnected_at=now)
    Node.objects.filter(id=node_id).delete()
    counts = participants(list({channel.id for _, channel in gone}))
    return [Left(card, ref_of(channel), counts.get(channel.id, 0)) for card, channel in gone]


def sweep_dead(age: float | None = None) -> list[Left]:
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
                left += _forget(node_id)
    return left


def rows() -> list[shapes.Process]:
    """The processes of the bus, oldest first."""
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
