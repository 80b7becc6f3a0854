"""Sweeps: remove unused channels, rooms, clients and inboxes that were created automatically."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TypeVar

from django.db import transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils import timezone

from .. import signals
from ..conf.settings import config
from ..models import Channel, Client, Counter, Mark, Membership, Message, Room, new_epoch
from ..protocol.errors import BusError
from .channels import remove
from .clients import remove_all
from .decision_expiry import wanted

M = TypeVar("M", bound=Model)

#: Clients that one transaction removes. Between two transactions, publishers can write.
CLIENTS = 50
#: Channels, inboxes or rooms that one sweep removes.
SWEPT = 200
#: Rows of a table that one sweep looks at. The next one goes on behind them.
WALKED, EVERYTHING = 5000, 1 << 40
#: The counter with the time of the last sweep of any process, and its times of the interval after which another one sweeps.
TURN, PATIENCE = "swept_at", 1.5


class Walk:
    """The place in a table up to which sweeps came. Each sweep looks at a bounded number of rows, and the last one ends it."""

    def __init__(self, rows: int = WALKED) -> None:
        self._rows = rows
        self._after = self._until = 0
        #: Whether the rows of this turn were all looked at.
        self.done = True

    def among(self, rows: QuerySet[M], *, most: int) -> list[M]:
        """Return at most ``most`` of those of the ``rows`` that come next in their table, in the order of their keys."""
        table = rows.model._default_manager
        if self.done:
            ends = table.filter(pk__gt=self._after).order_by("pk").values_list("pk", flat=True)
            self._until = ends[self._rows - 1 : self._rows].first() or 0
        found = rows.filter(pk__gt=self._after).order_by("pk")
        if self._until:
            found = found.filter(pk__lte=self._until)
        some = list(found[:most])
        self.done = len(some) < most
        self._after = self._until if self.done else some[-1].pk
        return some


def take_turn(held: int, interval: float) -> int:
    """Return the time of this turn if the calling process is the one that sweeps for all, else 0.

    ``held`` is the time of its last turn (0: none). A process that sweeps goes on to do so. Another one takes its place when
    nobody swept for :data:`PATIENCE` times the ``interval``, or when the noted time lies in the future.
    """
    now = int(time.time() * 1000)
    counter, _ = Counter.objects.get_or_create(name=TURN)
    overdue = counter.value <= now - PATIENCE * interval * 1000 or counter.value > now + interval * 1000
    if not overdue and counter.value != held:
        return 0
    return now if Counter.objects.filter(name=TURN, value=counter.value).update(value=now) else 0


def sweep_channels(age: float, walk: Walk | None = None) -> int:
    """Remove idle channels that were created automatically, at most :data:`SWEPT`. Return how many.

    A channel is idle without members, without messages, without marks, without decisions that somebody may wait for, and without
    a change for ``age`` seconds. Whoever has a mark comes back for later messages, so the log must stay. History stays for as
    long as the retention says. :func:`sweep_inboxes` removes inboxes. With a ``walk``, only its next rows are looked at.
    """
    idle_since = timezone.now() - timedelta(seconds=age)
    swept = 0
    idle = (
        Channel.objects.select_related("room")
        .filter(kind=Channel.Kind.CHANNEL, auto_created=True, touched_at__lt=idle_since, created_at__lt=idle_since)
        .filter(~Exists(Membership.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(Message.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(Mark.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(wanted().filter(channel=OuterRef("pk"))))
    )
    for channel in (walk or Walk(EVERYTHING)).among(idle, most=SWEPT):
        address = channel.address
        with transaction.atomic():
            # A channel whose row is locked is in use. The thread that writes the log must not wait for this sweep either.
            row = Channel.objects.select_for_update(skip_locked=True).filter(pk=channel.pk, touched_at__lt=idle_since)
            locked = row.first()
            if locked is None or locked.memberships.exists() or locked.marks.exists():
                continue
            if wanted().filter(channel=locked).exists():
                continue
            locked.room = channel.room
            remove(locked)
        swept += 1
        signals.channel_deleted.send_robust(
            Channel,
            room=address.room,
            channel=address.channel,
            deleted_by="arqonbus_server",
            private=channel.room.private,
        )
    return swept


def sweep_rooms(age: float, walk: Walk | None = None) -> int:
    """Remove rooms that were created automatically and have no channels left, at most :data:`SWEPT`. Return how many."""
    idle_since = timezone.now() - timedelta(seconds=age)
    swept = 0
    in_use = Channel.objects.filter(room=OuterRef("pk")).filter(
        Q(kind=Channel.Kind.CHANNEL)
        | Q(touched_at__gte=idle_since)
        | Exists(Message.objects.filter(channel=OuterRef("pk")))
        | Exists(Membership.objects.filter(channel=OuterRef("pk")))
        | Exists(Mark.objects.filter(channel=OuterRef("pk")))
    )
    # A room with settings of its own no longer counts as created automatically.
    untouched = Q(auto_created=True, private=False, presence=None, description="")
    unused = Room.objects.filter(untouched, ~Exists(in_use), created_at__lt=idle_since)
    for room in (walk or Walk(EVERYTHING)).among(unused, most=SWEPT):
        with transaction.atomic():
            # The lock comes before the check. Rows that are inserted meanwhile refer to the room's row: the check sees them,
            # or they wait.
            held = Room.objects.select_for_update(skip_locked=True).filter(pk=room.pk).first()
            own = list(room.channels.select_for_update(of=("self",), skip_locked=True))
            if held and len(own) == room.channels.count() and unused.filter(pk=room.pk).exists():
                for channel in own:
                    channel.room = room
                    remove(channel)
                Room.objects.filter(pk=room.pk).delete()
                swept += 1
    return swept


def sweep_clients() -> int:
    """Remove anonymous clients whose resume token has expired. Return how many, at most :data:`CLIENTS`.

    Their ids are free afterwards. Their private messages go with their inboxes: the next owner of an id finds none of
    them.
    """
    gone_since = timezone.now() - timedelta(seconds=config().resume_window)
    gone = Client.objects.filter(principal="", node=None, disconnected_at__lt=gone_since)
    try:
        with transaction.atomic():
            # A row that is locked belongs to a client that is connecting again at this moment.
            ids = dict(gone.select_for_update(skip_locked=True).values_list("client_id", "id")[:CLIENTS])
            remove_all(ids)
    except BusError:
        return 0  # Somebody answers one of them at this moment. The next sweep removes them.
    return len(ids)


def sweep_inboxes(age: float, walk: Walk | None = None) -> int:
    """Remove the inboxes of removed clients that got no message for ``age`` seconds, at most :data:`SWEPT`. Return how many.

    The inbox of a client with a generated id and without marks also goes, after ``age`` seconds without a connection. If
    that client returns, its new inbox has another epoch, so it learns that the old one is gone.
    """
    idle_since = timezone.now() - timedelta(seconds=age)
    made_up = Client.objects.filter(generated=True, marked=False, node=None, disconnected_at__lt=idle_since)
    abandoned = Channel.objects.select_related("room").filter(
        ~Exists(Client.objects.filter(client_id=OuterRef("name")).exclude(pk__in=made_up.values("pk"))),
        kind=Channel.Kind.INBOX,
        touched_at__lt=idle_since,
        created_at__lt=idle_since,
    )
    swept = 0
    for found in (walk or Walk(EVERYTHING)).among(abandoned, most=SWEPT):
        key, name = found.pk, found.name
        with transaction.atomic():
            # Lock both rows and check again: another client may have taken the id and received a private message meanwhile.
            gone = list(made_up.select_for_update(skip_locked=True).filter(client_id=name))
            channel = abandoned.select_for_update(of=("self",), skip_locked=True).filter(pk=key).first()
            if channel is not None and (gone or not Client.objects.filter(client_id=name).exists()):
                remove(channel)
                # The client keeps its open questions and its jobs: without its proof nobody gets a generated id.
                rows = Client.objects.filter(pk__in=[client.pk for client in gone])
                rows.exclude(principal="").delete()  # Anonymous clients are removed later (`sweep_clients`).
                rows.update(inbox_epoch=new_epoch())
                swept += 1
    return swept
