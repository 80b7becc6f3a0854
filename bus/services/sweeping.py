"""Away with what came into being by itself and serves nobody: channels, rooms, clients, inboxes."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from .. import signals
from ..conf.settings import config
from ..models import Channel, Client, Membership, Message, Room, new_epoch
from .channels import remove
from .clients import remove_all

#: Clients that one transaction forgets; publishers' are in between.
CLIENTS = 50


def sweep_channels(age: float) -> int:
    """Remove what came into being by itself and serves nobody: how many channels went.

    These are channels without members, without news for ``age`` seconds and without a message (history stays for as long as
    the retention says), and rooms that are left without channels. Inboxes: :func:`sweep_inboxes`.
    """
    idle_since = timezone.now() - timedelta(seconds=age)
    swept = 0
    for channel in (
        Channel.objects.select_related("room")
        .filter(kind=Channel.Kind.CHANNEL, auto_created=True, touched_at__lt=idle_since, created_at__lt=idle_since)
        .filter(~Exists(Membership.objects.filter(channel=OuterRef("pk"))))
        .filter(~Exists(Message.objects.filter(channel=OuterRef("pk"))))[:200]
    ):
        address = channel.address
        with transaction.atomic():
            # A row that somebody holds is not idle; the writing thread of the bus must not wait for it.
            idle = Channel.objects.select_for_update(skip_locked=True).filter(pk=channel.pk, touched_at__lt=idle_since)
            locked = idle.first()
            if locked is None or locked.memberships.exists():
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
    )
    # A room that somebody gave rules of its own is not one that came by itself any more.
    untouched = Q(auto_created=True, private=False, presence=None, description="")
    unused = Room.objects.filter(untouched, ~Exists(in_use), created_at__lt=idle_since)
    for room in unused[:200]:
        with transaction.atomic():
            # Held first and looked at then: what comes into being in it meanwhile refers to its row, and is seen, or waits.
            held = Room.objects.select_for_update(skip_locked=True).filter(pk=room.pk).first()
            own = list(room.channels.select_for_update(of=("self",), skip_locked=True))
            if held and len(own) == room.channels.count() and unused.filter(pk=room.pk).exists():
                for channel in own:
                    channel.room = room
                    remove(channel)
                Room.objects.filter(pk=room.pk).delete()


def sweep_clients() -> int:
    """Forget clients whom nobody vouches for and whose resume token is no longer good: how many, at most :data:`CLIENTS`.

    Their ids are anybody's by then. What they were told goes with their inbox: who takes an id next finds nothing in it.
    """
    gone_since = timezone.now() - timedelta(seconds=config().resume_window)
    gone = Client.objects.filter(principal="", node=None, disconnected_at__lt=gone_since)
    with transaction.atomic():
        # A row that somebody holds is of a client that comes back at this moment.
        ids = dict(gone.select_for_update(skip_locked=True).values_list("client_id", "id")[:CLIENTS])
        remove_all(ids)
    return len(ids)


def sweep_inboxes(age: float) -> int:
    """Remove the inboxes of clients that are gone for good and got nothing for ``age`` seconds; how many.

    So is one whose id the server made up, after ``age`` seconds without a connection. Should it come back all the same, the epoch
    that its inbox will have then says that there was another one.
    """
    idle_since = timezone.now() - timedelta(seconds=age)
    made_up = Client.objects.filter(generated=True, node=None, disconnected_at__lt=idle_since)
    abandoned = Channel.objects.select_related("room").filter(
        ~Exists(Client.objects.filter(client_id=OuterRef("name")).exclude(pk__in=made_up.values("pk"))),
        kind=Channel.Kind.INBOX,
        touched_at__lt=idle_since,
        created_at__lt=idle_since,
    )
    swept = 0
    for key, name in list(abandoned.values_list("pk", "name")[:200]):
        with transaction.atomic():
            # Looked at again, its row and its client's in hand: somebody may have taken the id since, and got a letter.
            gone = list(made_up.select_for_update(skip_locked=True).filter(client_id=name))
            channel = abandoned.select_for_update(of=("self",), skip_locked=True).filter(pk=key).first()
            if channel is not None and (gone or not Client.objects.filter(client_id=name).exists()):
                remove(channel)
                rows = Client.objects.filter(pk__in=[client.pk for client in gone])
                rows.exclude(principal="").delete()  # Those of nobody go with their time (`sweep_clients`).
                rows.update(inbox_epoch=new_epoch())
                swept += 1
    return swept
