"""Questions: who may be asked, and which question a reply answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from ..auth.permissions import Actor
from ..conf.settings import config
from ..log.question_batch import OPEN, question_not_found
from ..models import Client, Question
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Asked, Reply

#: Questions with one id that are looked at. Their askers chose the same one.
MOST = 100


def connected(client_ids: Iterable[str]) -> set[str]:
    """Return those of the clients that are connected to a process with a recent heartbeat."""
    alive = Now() - timedelta(seconds=config().node_timeout)
    rows = Client.objects.filter(client_id__in=list(client_ids), node__heartbeat_at__gt=alive)
    return set(rows.values_list("client_id", flat=True))


def no_responder(to: str) -> BusError:
    """Return the error for a question that nobody can answer now. An unknown client gives the same as one that is away."""
    return BusError(ErrorCode.NO_RESPONDER, details=[{"to": to}])


def find_question(actor: Actor, reply: Reply) -> Asked:
    """Return the question that ``actor`` answers with ``reply``, open or ended.

    The client that was asked may answer, under its own client id or another one of the same principal. The project's own code
    may answer any question. Raises ``BusError`` QUESTION_NOT_FOUND. If several askers chose the same id, and the reply does not
    say whose it is, raises VALIDATION_ERROR.
    """
    rows = Question.objects.filter(uid=reply.to_message).exclude(to="").order_by("-id")
    if reply.asker is not None:
        rows = rows.filter(client_id=reply.asker)
    floors: dict[str, int] = {}
    if not actor.system:
        floors = _own_floors(actor, rows)
        rows = rows.filter(to__in=floors)
    # Nobody answers what a client was asked that had the id before, without a proof that it is the same one.
    found = [row for row in rows[:MOST] if row.seq > floors.get(row.to, 0)]
    if not found:
        raise question_not_found(reply.to_message)
    candidates = [row for row in found if row.state == OPEN] or found[:1]
    if len({row.client_id for row in candidates}) > 1:
        message = "Several clients asked a question with this id. Send the `reply_to` of the question too."
        raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": "reply_to", "message": message}])
    return as_asked(candidates[0])


def as_asked(row: Question) -> Asked:
    """Return a question as a reply needs it."""
    return Asked(row.pk, row.uid, row.client_id, row.correlation, row.trace.encode())


def _own_floors(actor: Actor, rows: QuerySet[Question]) -> dict[str, int]:
    """Return the clients that were asked and that the actor speaks for, each with the floor of its inbox."""
    own = Q(client_id=actor.client_id) if actor.client_id else Q(pk__in=[])
    if actor.principal:
        own |= Q(principal=actor.principal)
    known = Client.objects.filter(own, client_id__in=rows.order_by().values("to"))
    floors = dict(known.values_list("client_id", "inbox_floor"))
    # A client without a row may have been asked: the project's code speaks under any id.
    return {actor.client_id: 0, **floors} if actor.client_id else floors


def own_questions(actor: Actor, uid: str) -> QuerySet[Question]:
    """Return the questions with this uid that the actor asked, newest first."""
    rows = Question.objects.filter(uid=uid).select_related("channel__room").order_by("-id")
    if actor.system:
        return rows
    if actor.principal:
        return rows.filter(principal=actor.principal)
    return rows.filter(principal="", client_id=actor.client_id or "\x00")
