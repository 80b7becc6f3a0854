"""Ownership: which connection has a client id, and how another connection takes it over.

A client that asks for a known id proves its identity by its principal, or by the resume token of the last registration.
Of two connections with proof, the later one gets the id. "Later" is decided here, under the lock of the client's row.
Each granted claim has an :data:`Order`. Every process follows it, even if notifications of takeovers arrive late or
crossed.
"""

from __future__ import annotations

import json
from collections.abc import Container
from datetime import datetime
from typing import Any

import msgspec
from django.db.models import Count
from django.utils import timezone

from ..conf.settings import config
from ..directory.clients import too_many_ids
from ..directory.inboxes import positions
from ..log import Position
from ..models import Client, Membership, digest, new_epoch
from ..monitoring import metrics
from ..notify import dispatch
from ..notify import messages as notifications
from ..protocol.errors import SLOW, TAKEN_OVER, TOO_MANY, BusError, Closing, ErrorCode
from . import belongings, connections_sql, marks, nodes, streams
from .channels import participants
from .claims import Claim, Claimed, Order, Raced
from .held import ChannelHeld, refer_to
from .proofs import judge


class _Row(msgspec.Struct):
    """What the client's row says after a claim, besides the claim itself. A model would cost more than its insert."""

    claims: int
    resume_digest: str
    inbox_floor: int
    proven_since: datetime
    status: dict[str, Any] | None
    status_until: datetime | None
    marked: bool
    inbox_epoch: str = ""


class _Granted(msgspec.Struct):
    """A granted claim before it is written to the database."""

    index: int
    claim: Claim
    row: _Row
    token: str
    withheld: bool
    #: Whether the id had another owner before, who may have open streams.
    unproven: bool

    @property
    def holder(self) -> str | None:
        """The holder of the claimant's marks. None for a claimant that surely has none."""
        if not self.claim.principal and not self.row.marked:
            return None
        return marks.holder_of(self.claim.principal, self.claim.client_id)


def claim(claims: list[tuple[int, Claim]]) -> dict[int, Any]:
    """Carry out claims inside the caller's transaction. Return the answer to each claim by its index.

    The answer is a :class:`Claimed`, an exception, or None if the channel no longer exists. Several claims for one id are
    carried out one after another. The last one with proof gets the id.
    """
    answers: dict[int, Any] = {}
    while claims:
        first: dict[str, tuple[int, Claim]] = {}
        later: list[tuple[int, Claim]] = []
        for index, one in claims:
            if one.client_id in first:
                later.append((index, one))
            else:
                first[one.client_id] = (index, one)
        answers.update(_claim(list(first.values())))
        claims = later
    return answers


def _claim(claims: list[tuple[int, Claim]]) -> dict[int, Any]:
    """As :func:`claim`, with at most one claim for each id."""
    answers: dict[int, Any] = {}
    now = timezone.now()
    known, inboxes = _known([claim for _, claim in claims])
    connected = _connected([claim for _, claim in claims])
    alive = nodes.alive_ids() if known else set()
    free, held = refer_to({claim.channel_id for _, claim in claims})
    owned = _owned([claim for _, claim in claims], known)
    granted: list[_Granted] = []
    for i, claim in claims:
        if claim.channel_id in held:
            answers[i] = ChannelHeld()
            continue
        if claim.channel_id not in free:
            answers[i] = None
            continue
        if not claim.wanted():
            answers[i] = Closing(SLOW, BusError(ErrorCode.UNAVAILABLE, "The connection has closed.", retry_after=1.0))
            continue
        row = known.get(claim.client_id)
        here_already = row is not None and row.node_id is not None and row.principal == claim.principal
        if claim.most and not here_already:
            if connected.get(claim.principal, 0) >= claim.most:
                answers[i] = too_many(
                    "connections_per_principal", f"You have reached your limit of {claim.most} connections."
                )
                continue
            connected[claim.principal] = connected.get(claim.principal, 0) + 1
        # A connection of this process that claims an id is alive, however old the process's last heartbeat is.
        here = row is not None and (row.node_id == claim.node_id or row.node_id in alive)
        refusal, proven, by_token = judge(row, claim, now, connected=here)
        if refusal is not None:
            answers[i] = refusal
            continue
        if row is None and claim.principal in owned and not claim.generated:
            if owned[claim.principal] >= config().client_ids_per_principal:
                answers[i] = too_many_ids(config().client_ids_per_principal)
                continue
            owned[claim.principal] += 1
        inbox = inboxes.get(claim.client_id)
        # Without proof, the private messages in the inbox belong to a previous owner, even if that owner has no row any more.
        if proven:
            floor = row.inbox_floor if row is not None else 0
        else:
            floor = inbox.head if inbox is not None else 0
        # A token that proved the client stays valid. With a new token, a client that misses the answer would have no proof.
        token = claim.resume_token if by_token and claim.resume_token else claim.new_token
        made = _row(claim, row, now, token=token, floor=floor, proven=proven)
        made.inbox_epoch = "" if inbox is not None else _inbox_epoch(claim, row)
        granted.append(_Granted(i, claim, made, token, floor > 0 and not proven, row is not None and not proven))
    if granted:
        held_ids = _part(granted, inboxes)
        answers.update((one.index, ChannelHeld()) for one in granted if one.claim.client_id in held_ids)
        granted = [one for one in granted if one.claim.client_id not in held_ids]
        _settle_marks(granted, known)
        for one, claimed in _written(granted, known, inboxes, now):
            answers[one.index] = claimed
    return answers


def _known(claims: list[Claim]) -> tuple[dict[str, Client], dict[str, Position]]:
    """Return the rows of the claimed ids, which it locks, and the inboxes of the claimants, both by client id."""
    names = [claim.client_id for claim in claims]
    there, inboxes = connections_sql.statements().look(names, [one.client_id for one in claims if not one.generated])
    if not there:
        return {}, inboxes
    rows = Client.objects.filter(client_id__in=there).order_by("id").select_for_update()
    known = {client.client_id: client for client in rows}
    # Messages may have come while the locks were waited for. They are the previous owner's, too.
    return known, {**inboxes, **positions(list(known))}


def _part(granted: list[_Granted], inboxes: dict[str, Position]) -> set[str]:
    """Part claimants without proof from the streams, questions and jobs of the previous owners of their ids.

    So are they from the streams in their inboxes.

    Returns the ids for which a locked row prevents that. Their claims are tried again.
    """
    names = [one.claim.client_id for one in granted if one.unproven]
    held = belongings.disown(names)
    withheld = {one.claim.client_id: one for one in granted if one.withheld and one.claim.client_id in inboxes}
    if withheld:
        kept = streams.end_in([inboxes[name].id for name in withheld])
        held |= {name for name in withheld if inboxes[name].id in kept}
        # The ends lie in the inboxes too, and belong to the previous owners.
        inboxes.update(positions(list(withheld)))
        for name, one in withheld.items():
            one.row.inbox_floor = inboxes[name].head
    return held


def _settle_marks(granted: list[_Granted], known: dict[str, Client]) -> None:
    """Keep the marks of anonymous claimants with proof. A proven principal gets them, and without proof they go."""
    changed = [one for one in granted if (row := known.get(one.claim.client_id)) and row.marked and not one.row.marked]
    if lost := [one.claim.client_id for one in changed if one.unproven]:
        marks.forget(lost)
    for one in changed:
        if not one.unproven:
            marks.hand_over(one.claim.client_id, one.claim.principal)


def _inbox_epoch(claim: Claim, row: Client | None) -> str:
    """Return the epoch that the inbox of a client will have. It is new if an earlier inbox used the one before."""
    return claim.new_epoch if row is None else row.inbox_epoch or new_epoch()


def _row(claim: Claim, row: Client | None, now: datetime, *, token: str, floor: int, proven: bool) -> _Row:
    """Return what the client's row says after the claim."""
    # The status ends with the last connection. A client that only comes back on another one keeps it.
    keeps = row is not None and proven and row.node_id is not None
    return _Row(
        claims=(row.claims if row is not None else 0) + 1,
        resume_digest=digest(token),
        inbox_floor=floor,
        proven_since=row.proven_since if row is not None and proven else now,
        status=row.status if row is not None and keeps else None,
        status_until=row.status_until if row is not None and keeps else None,
        marked=row is not None and row.marked and proven and not claim.principal,
    )


def _columns(claim: Claim, row: _Row) -> tuple[Any, ...]:
    """Return a newcomer's values in the order of ``connections_sql.COLUMNS``."""
    return (
        claim.client_id,
        claim.client_type,
        claim.screen_name,
        claim.avatar,
        json.dumps(claim.personality) if claim.personality else "{}",
        None if claim.card is None else json.dumps(claim.card),
        claim.role,
        claim.principal,
        claim.generated,
        claim.node_id,
        claim.connection_id,
        row.resume_digest,
        row.inbox_floor,
        row.inbox_epoch,
        claim.last_activity,
    )


def _renew(granted: list[_Granted], now: datetime) -> None:
    """Write the rows of clients that were known before."""
    Client.objects.bulk_create(
        [
            Client(
                client_id=claim.client_id,
                client_type=claim.client_type,
                screen_name=claim.screen_name,
                avatar=claim.avatar,
                personality=claim.personality,
                card=claim.card,
                role=claim.role,
                principal=claim.principal,
                generated=claim.generated,
                node_id=claim.node_id,
                connection_id=claim.connection_id,
                connected_at=now,
                disconnected_at=None,
                last_activity=claim.last_activity,
                **msgspec.structs.asdict(row),
            )
            for claim, row in ((one.claim, one.row) for one in granted)
        ],
        update_conflicts=True,
        unique_fields=["client_id"],
        update_fields=[
            "client_type", "screen_name", "avatar", "personality", "role", "principal", "generated", "node", "connection_id",
            "claims", "resume_digest", "inbox_floor", "inbox_epoch", "proven_since", "connected_at", "disconnected_at",
            "last_activity", "marked", "card", "status", "status_until",
        ],
    )  # fmt: skip


def _written(
    granted: list[_Granted], known: dict[str, Client], inboxes: dict[str, Position], now: datetime
) -> list[tuple[_Granted, Claimed | Raced]]:
    """Write the granted claims, each with its first membership. Dismiss the earlier connections of their ids.

    Returns each claim with its result. It is :class:`Raced` where another process made the client meanwhile. Earlier
    connections are dismissed with the commit.
    """
    sql = connections_sql.statements()
    ids = {client.client_id: client.pk for client in known.values()}
    if new := [_columns(one.claim, one.row) for one in granted if one.claim.client_id not in known]:
        ids.update(sql.insert(new, now))
    raced = [one for one in granted if one.claim.client_id not in ids]
    granted = [one for one in granted if one.claim.client_id in ids]
    if old := [one for one in granted if one.claim.client_id in known]:
        _renew(old, now)
        Membership.objects.filter(client_id__in=[ids[one.claim.client_id] for one in old]).delete()
    # The total is part of the claims' transaction, so it is right after a crash too.
    sql.place([(ids[one.claim.client_id], one.claim.channel_id) for one in granted], now)
    counts = participants(list({one.claim.channel_id for one in granted}))
    holders = {holder for one in granted if (holder := one.holder) is not None}
    kept = marks.kept_by(holders) if holders else {}
    written: list[tuple[_Granted, Claimed | Raced]] = [(one, Raced()) for one in raced]
    for one in granted:
        name = one.claim.client_id
        order = (ids[name], one.row.claims)
        before = known.get(name)
        if before is not None and before.node_id is not None and before.connection_id != one.claim.connection_id:
            dispatch.notify_on_commit(taken_over_notification(name, before.connection_id, order))
        inbox = inboxes.get(name)
        written.append(
            (
                one,
                Claimed(
                    inbox=inbox,
                    inbox_epoch=inbox.epoch if inbox is not None else one.row.inbox_epoch,
                    inbox_floor=one.row.inbox_floor,
                    withheld=one.withheld,
                    participants=counts.get(one.claim.channel_id, 0),
                    token=one.token,
                    order=order,
                    marks=kept.get(one.holder or "", {}),
                    marked=one.row.marked,
                ),
            )
        )
    return written


def taken_over_notification(client_id: str, connection_id: str, order: Order) -> notifications.Dismiss:
    """Return the notification that closes connections of a client whose claims came before ``order``.

    It closes ``connection_id`` and older connections.
    """
    text = "A newer connection of this client took over."
    return notifications.Dismiss(client_id, connection_id, TAKEN_OVER, ErrorCode.TAKEN_OVER, text, order)


def _connected(claims: list[Claim]) -> dict[str, int]:
    """Return the number of connections in all processes for each principal that has a limit."""
    principals = {claim.principal for claim in claims if claim.most}
    if not principals:
        return {}
    rows = Client.objects.filter(principal__in=principals, node__in=nodes.alive_ids()).values_list("principal")
    return dict(rows.annotate(Count("id")).order_by())


def _owned(claims: list[Claim], known: Container[str]) -> dict[str, int]:
    """Return the number of client ids of each principal that wants a new permanent one."""
    new = {one.principal for one in claims if one.principal and not one.generated and one.client_id not in known}
    if not new or not config().client_ids_per_principal:
        return {}
    rows = Client.objects.filter(principal__in=new).order_by().values_list("principal")
    return {**dict.fromkeys(new, 0), **dict(rows.annotate(Count("id")))}


def too_many(limit: str, text: str) -> Closing:
    """Count the refusal and return the close (4429) of a connection above a limit of connections."""
    metrics.limits.labels(limit).inc()
    return Closing(TOO_MANY, BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": limit}], 5.0))
