"""Clients: list them, disconnect them, forget them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import BooleanField, Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils import timezone

from .. import shapes
from ..auth.permissions import PRESENCE, Actor, can, require
from ..models import Channel, Client, Membership, wire_time
from ..notify import dispatch
from ..notify import messages as notifications
from ..protocol.errors import NOT_ALLOWED, BusError, ErrorCode
from ..protocol.names import Address, inbox, is_client_id
from ..protocol.routing import channel_not_found, invalid_name
from . import audit, belongings, marks
from .channels import presence_for, remove
from .visibility import channels_for
from .walking import sealed, unsealed, walk

#: Limits of one page: connected clients to scan, memberships to read of visible clients, and bytes of personalities.
WINDOW, MOST_MEMBERSHIPS, PAGE_BYTES = 5_000, 5_000, 2 * 1024 * 1024
#: Bytes of cards and statuses in one page. The answer to a command contains them twice.
MOST_SAID = 256 * 1024


def proven_since(client_id: str) -> datetime:
    """Return the time since when one proven owner has had the id. For an unknown id, return the present time."""
    found = Client.objects.filter(client_id=client_id).values_list("proven_since", flat=True).first()
    return found or timezone.now()


def inbox_floor(actor: Actor, client_id: str) -> int | None:
    """Return the seq above which ``actor`` may read the inbox of ``client_id``; None unless its principal owns the id."""
    if actor.anonymous:
        return None
    rows = Client.objects.filter(client_id=client_id, principal=actor.principal)
    floor: int | None = rows.values_list("inbox_floor", flat=True).first()
    return floor


def as_owner(actor: Actor, client_id: str) -> tuple[Actor, int]:
    """Return ``actor`` with ``client_id``, and the seq after which it may read that client's inbox.

    Raises ``BusError`` CHANNEL_NOT_FOUND if the inbox belongs to another client.
    """
    floor = inbox_floor(actor, client_id)
    if floor is None:
        raise channel_not_found(inbox(client_id))
    return msgspec.structs.replace(actor, client_id=client_id), floor


def disconnect(actor: Actor, client_id: str, *, door: str, reason: str = "") -> None:
    """Close the connection of a client (4403), in whichever process it is.

    Admins only. Raises ``BusError`` FORBIDDEN or CLIENT_NOT_FOUND.
    """
    if not actor.manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may disconnect a client.")
    if not is_client_id(client_id):
        raise BusError(ErrorCode.CLIENT_NOT_FOUND, f"No client {client_id[:64]!r} is connected.")
    client = Client.objects.filter(client_id=client_id, node__isnull=False).first()
    if client is None:
        raise BusError(ErrorCode.CLIENT_NOT_FOUND, f"No client {client_id!r} is connected.")
    audit.record(actor, door, "disconnect", client_id, reason=reason)
    dispatch.notify_on_commit(
        notifications.Dismiss(
            client_id,
            client.connection_id,
            NOT_ALLOWED,
            ErrorCode.FORBIDDEN,
            reason or "An administrator disconnected you.",
        )
    )


def forget(actor: Actor, client_id: str, *, door: str) -> None:
    """Remove a disconnected client with its inbox. Its id becomes free, and its messages stay in the channels.

    Admins only. Raises ``BusError`` FORBIDDEN, CLIENT_NOT_FOUND, CLIENT_ID_IN_USE while the client is connected, or UNAVAILABLE
    (:func:`remove_all`).
    """
    if not actor.manages:
        raise BusError(ErrorCode.FORBIDDEN, "Only admins may remove a client.")
    with transaction.atomic():
        client = Client.objects.select_for_update(of=("self",)).filter(client_id=client_id).first()
        if client is None:
            raise BusError(ErrorCode.CLIENT_NOT_FOUND, f"There is no client {client_id[:64]!r}.")
        if client.node_id is not None:
            raise BusError(ErrorCode.CLIENT_ID_IN_USE, f"{client_id} is connected. Disconnect it first.")
        remove_all({client.client_id: client.pk})
        audit.record(actor, door, "forget_client", client_id)


def remove_all(keys: Mapping[str, int]) -> None:
    """Remove clients with their inboxes, inside the caller's transaction. ``keys`` maps client ids to primary keys.

    Their open questions end, and their jobs and streams have no owner then: nothing of them is for the next owner of an id.
    Raises ``BusError`` UNAVAILABLE while another transaction changes one of these. The caller must roll back.
    """
    for channel in Channel.objects.select_related("room").filter(kind=Channel.Kind.INBOX, name__in=list(keys)):
        remove(channel)
    # After the inboxes, whose locks may be waited for: who waits holds no question, job or stream of somebody else's channel.
    if held := belongings.disown(keys.keys()):
        text = f"A question, a job or a stream of {min(held)} changes at this moment. Try again."
        raise BusError(ErrorCode.UNAVAILABLE, text, retry_after=1.0)
    marks.forget(keys)
    Client.objects.filter(pk__in=keys.values()).delete()


def public(client: Client) -> dict[str, Any]:
    """Return the fields of a client that others may see."""
    return {
        "client_id": client.client_id,
        "client_type": client.client_type,
        "screen_name": client.screen_name or None,
        "avatar": client.avatar or None,
    }


def status_of(client: Client, now: datetime) -> shapes.Status | None:
    """Return the status of a client at the time ``now``."""
    if client.status is None or (client.status_until is not None and client.status_until <= now):
        return None
    return shapes.Status(**client.status, until=wire_time(client.status_until))


def present(now: datetime, *, prefix: str = "") -> Q:
    """Return a filter for clients that are connected, or that keep a status without a connection.

    ``prefix`` is the lookup that leads to the client, such as ``client__``.
    """
    return Q(**{f"{prefix}node__isnull": False}) | Q(**{f"{prefix}status_until__gt": now})


def with_status(clients: QuerySet[Client], status: str) -> QuerySet[Client]:
    """Return those of the clients that have this word as their status now."""
    lasts = Q(status_until=None) | Q(status_until__gt=timezone.now())
    return clients.filter(lasts, status__status=status)


def with_skill(clients: QuerySet[Client], skill: str) -> QuerySet[Client]:
    """Return those of the clients whose card names this skill."""
    if connection.vendor == "postgresql":
        return clients.filter(card__skills__contains=[skill])
    # SQLite has no `contains` for JSON.
    named = "EXISTS (SELECT 1 FROM json_each(bus_client.card, '$.skills') WHERE value = %s)"
    return clients.filter(RawSQL(named, [skill], output_field=BooleanField()))  # noqa: S611 - the skill is a parameter


def list_clients(
    actor: Actor,
    *,
    limit: int,
    after: str = "",
    clients: QuerySet[Client] | None = None,
    channel: Address | None = None,
) -> tuple[list[shapes.Client], str | None]:
    """Return the present clients (:func:`present`) behind ``after``, ordered by id, and the cursor of the next page.

    An actor that does not manage the bus sees itself and the members of channels whose presence it may see. It sees only
    those channels of a client. Only admins see personalities. ``clients`` narrows the rows, and ``channel`` restricts
    them to its members. Raises ``BusError`` INVALID_NAME for an ``after`` that is not a cursor. For ``channel`` it raises
    CHANNEL_NOT_FOUND, or FORBIDDEN without the right to its presence.
    """
    place = unsealed(after)
    if place is None:
        raise invalid_name("after", after, "`after` must be the `next` of a page.")
    here_now = present(timezone.now())
    connected = Client.objects.filter(here_now, client_id__gt=place).order_by("client_id")
    rows = (Client.objects.all() if clients is None else clients).filter(here_now)
    edge: list[str] = []
    if channel is not None:
        found = Channel.objects.select_related("room").filter(room__name=channel.room, name=channel.channel).first()
        if found is None or found.kind == Channel.Kind.INBOX:
            raise channel_not_found(channel)
        require(actor, PRESENCE, channel, private=found.room.private)
        if presence_for(actor, found.presence, channel, private=found.room.private) != Channel.Presence.NAMES:
            raise BusError(
                ErrorCode.FORBIDDEN,
                f"The members of {channel} are not named.",
                [{"action": PRESENCE, "address": str(channel)}],
            )
        rows = rows.filter(memberships__channel=found)
    elif not actor.manages:
        # This also bounds the rows that the database scans to find the visible clients.
        edge = list(connected.values_list("client_id", flat=True)[WINDOW - 1 : WINDOW])
        here = Membership.objects.filter(channels_for(actor, (PRESENCE,), prefix="channel__"), client=OuterRef("pk"))
        mine = Q(client_id=actor.client_id) if actor.anonymous else Q(principal=actor.principal)
        rows = rows.filter(mine | Q(client_id=actor.client_id) | Exists(here))
        rows = rows.filter(client_id__lte=edge[0]) if edge else rows
    shown, more, open_ = walk(
        rows.defer("personality"), ("client_id",), (place,), limit, lambda batch: _shown(actor, batch)
    )
    if more is None and edge:
        more, open_ = (edge[0],), False
    return shown, None if more is None else more[0] if open_ else sealed(more[0])


def get(actor: Actor, client_id: str) -> shapes.Client:
    """Return one present client. Raises ``BusError`` CLIENT_NOT_FOUND, also where ``actor`` may not see it."""
    rows = Client.objects.filter(present(timezone.now()), client_id=client_id) if is_client_id(client_id) else ()
    for shown in _shown(actor, list(rows)):
        if shown is not None:
            return shown
    raise BusError(ErrorCode.CLIENT_NOT_FOUND, f"No client {client_id[:64]!r} is connected.")


def own_ids(actor: Actor) -> dict[str, datetime | None]:
    """Return the client ids of ``actor``'s principal, each with the time since when it is surely its own (None: always)."""
    if actor.anonymous:
        return {}
    rows = Client.objects.filter(principal=actor.principal).values_list("client_id", "proven_since", "generated")
    return {client_id: None if generated else since for client_id, since, generated in rows}


def _shown(actor: Actor, clients: list[Client]) -> list[shapes.Client | None]:
    """Return the first of the clients as ``actor`` sees them, with None for each hidden client.

    The result ends early where the clients have more memberships, larger personalities, or more to say of themselves than
    one page may read.
    """
    ids = [client.pk for client in clients]
    # An empty list runs the same query. A hidden client is then refused after the same work as one that is not connected.
    links = Membership.objects.filter(channels_for(actor, (PRESENCE,), prefix="channel__"), client__in=ids or [0])
    fields = (
        "client_id", "channel_id", "channel__room__name", "channel__name", "channel__room__private", "channel__presence",
    )  # fmt: skip
    read = list(links.order_by("client__client_id", "id").values_list(*fields)[: MOST_MEMBERSHIPS + 1])
    if len(read) > MOST_MEMBERSHIPS:
        # The memberships of the last client are incomplete.
        ids = ids[: max(1, ids.index(read[-1][0]))]
    personalities = _personalities(ids) if actor.manages else {}
    allowed: dict[int, bool] = {}
    named: dict[int, bool] = {}
    seen: dict[int, list[str]] = {}
    # With the channels that do not name their members: a client learns where it is itself.
    own_places: dict[int, list[str]] = {}
    for client_id, channel_id, room, name, private, presence in read:
        if channel_id not in allowed:
            address = Address(room, name)
            allowed[channel_id] = can(actor, PRESENCE, address, private=private)
            named[channel_id] = presence_for(actor, presence, address, private=private) == Channel.Presence.NAMES
        if allowed[channel_id]:
            own_places.setdefault(client_id, []).append(f"{room}:{name}")
            if named[channel_id]:
                seen.setdefault(client_id, []).append(f"{room}:{name}")
    answers: list[shapes.Client | None] = []
    now, said = timezone.now(), 0
    for client in clients[: len(personalities) if actor.manages else len(ids)]:
        own = client.client_id == actor.client_id or (not actor.anonymous and client.principal == actor.principal)
        if client.pk not in seen and not (own or actor.manages):
            answers.append(None)
            continue
        said += _size(client.card) + _size(client.status)
        if said > MOST_SAID and answers:
            break
        answers.append(
            shapes.Client(
                client_id=client.client_id,
                client_type=client.client_type,
                screen_name=client.screen_name or None,
                avatar=client.avatar or None,
                channels=(own_places if own else seen).get(client.pk, []),
                connected_at=wire_time(client.connected_at) if client.node_id is not None else None,
                last_activity=wire_time(client.last_activity),
                status=status_of(client, now),
                card=None if client.card is None else shapes.AgentCard(**client.card),
                personality=personalities[client.pk] if actor.manages else msgspec.UNSET,
            )
        )
    return answers


def _size(value: Any) -> int:
    """Return the bytes of a value in an answer."""
    return 0 if value is None else len(msgspec.json.encode(value))


def _personalities(ids: list[int]) -> dict[int, Any]:
    """Return the personalities of the first of the clients, as many as fit. Each may be as large as a frame."""
    found: dict[int, Any] = {}
    size = 0
    for start in range(0, len(ids), 20):
        part = dict(Client.objects.filter(pk__in=ids[start : start + 20]).values_list("pk", "personality"))
        for key in ids[start : start + 20]:
            personality = part.get(key, {})
            size += len(msgspec.json.encode(personality))
            if size > PAGE_BYTES and found:
                return found
            found[key] = personality
    return found
