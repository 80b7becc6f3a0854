"""Inboxes: their epochs before they exist, and the clients that leave none behind."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Exists, OuterRef, QuerySet

from ..log import Position
from ..models import Channel, Client, new_epoch
from ..protocol.names import INBOX_ROOM


def take_epoch(client_id: str) -> str:
    """Return the epoch for a new inbox: the one that its client already received, or a new one.

    An epoch that a client received is used for one inbox only.
    """
    told = Client.objects.filter(client_id=client_id).exclude(inbox_epoch="").values_list("pk", "inbox_epoch").first()
    if told is None:
        return new_epoch()
    # A transaction that holds the row sets the epoch anew itself, so publishers need not wait for it.
    rows = Client.objects.select_for_update(no_key=True, skip_locked=True).filter(pk=told[0])
    Client.objects.filter(pk__in=[row.pk for row in rows.only("pk")]).update(inbox_epoch="")
    return str(told[1])


def forgettable(clients: QuerySet[Client]) -> QuerySet[Client]:
    """Return the clients that are removed with their connection.

    The server generated their ids, no private message waits for them, and they have no marks.
    """
    letters = Channel.objects.filter(kind=Channel.Kind.INBOX, name=OuterRef("client_id"), head__gt=0)
    return clients.filter(~Exists(letters), generated=True, marked=False)


def positions(client_ids: Collection[str]) -> dict[str, Position]:
    """Return the positions of the inboxes of those clients that have one, by client id."""
    rows = Channel.objects.filter(room__name=INBOX_ROOM, name__in=client_ids).values_list("name", "id", "head", "epoch")
    return {name: Position(channel_id, head, epoch) for name, channel_id, head, epoch in rows}
