"""Sweeps: remove unused channels, rooms, clients and inboxes that were created automatically."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from .. import signals
from ..conf.settings import config
from ..models import Channel, Client, Mark, Membership, Message, Room, new_epoch
from ..protocol.errors import BusError
from .channels import remove
from .clients import remove_all
from .decision_expiry import wanted

#: Clients that one transaction removes. Between two transactions, publishers can write.
CLIENTS = 50


def sweep_channels(age: float) -> int:
    """Remove idle channels and rooms that were created automatically. Return how many channels were removed.

    A channel is idle without members, without messages, without marks, without decisions that somebody may wait for, and without
    a change for ``age`` seconds. Whoever has a mark comes back for later messages, so the log must stay. History stays for as
    long as the retention says. A room goes when it has no channels left. :func:`sweep_inboxes` removes inboxes.
    """
    idle_since = timezone.now() - timedelta(seconds=age)
    swept = 0
    for channel in (
        Channel.objects.select_related("room")
        .filter(kind=Channel.Kind.CHANNEL, auto_created=True, touched_at__lt=idle_since, created_at__lt=idle_since)
        .filter(~Exists(Membership.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(Message.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(Mark.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(wanted().filter(channel=OuterRef("pk"))))[:200]
    ):
        address = channel.address
        with transaction.atomic():
            # A channel whose row is locked is in use. The thread that writes the log must not wait for this sweep either.
            idle = Channel.objects.select_for_update(skip_locked=True).filter(pk=channel.pk, touched_at__lt=idle_since)
            locked = idle.first()
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
    _sweep_rooms(idle_since)
    return swept


def _sweep_rooms(idle_since: datetime) -> None:
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
    for room in unused[:200]:
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


def sweep_inboxes(age: float) -> int:
    """Remove the inboxes of removed clients that got no message for ``age`` seconds. Return how many.

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
    for key, name in list(abandoned.values_list("pk", "name")[:200]):
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
