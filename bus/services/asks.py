"""Questions: ask and reply from Django code, what became of a question, and the end of questions whose deadline has passed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple

import msgspec
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models.functions import Now

from ..auth.permissions import SYSTEM, Actor, checked
from ..directory.questions import own_questions
from ..log.question_batch import ANSWERED, OPEN, TIMEOUT, ask_timeout, question_not_found, seconds_between
from ..models import Channel, Message, Question
from ..notify import dispatch
from ..notify.messages import EndedQuestion, QuestionsEnded
from ..protocol import frames
from ..protocol.asking import REPLY
from ..protocol.errors import BusError, ErrorCode
from ..protocol.frames import quoted
from ..protocol.kept import legible
from ..protocol.names import INBOX_ROOM, Address
from ..publishing import django as publishing
from ..shapes import Published
from ..shapes import Question as QuestionState

#: Questions that one sweep ends, that one notification tells of, and rows that one transaction removes.
SWEPT = 500


class Look(NamedTuple):
    """What a look at the open questions found.

    ``overdue`` says that the deadline of one has passed. ``ended`` are those of the asked-for rows that are not open any more.
    """

    overdue: bool
    ended: set[int]


class Expired(NamedTuple):
    """A question whose deadline has passed: its row, its asker, the id of the asker's frame, and the error for it."""

    id: int
    client_id: str
    principal: str
    request_id: str | None
    error: BusError


# --- for Django code ----------------------------------------------------------------------------------------------------


def ask(
    to: str | Address,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    timeout: float = 30.0,
    durable: bool = False,
    correlation: str | None = None,
    id: str | None = None,
    metadata: dict[str, Any] | None = None,
    actor: Actor = SYSTEM,
) -> str:
    """Ask a client, or a work channel (``room:channel``), and return the id of the question. :func:`question` has the answer.

    ``timeout`` is in seconds. A question that is not ``durable`` needs a connected client. ``correlation`` is a text of your own,
    which comes back with the reply. The other parameters are those of ``publish``.

    Raises ``BusError`` as ``publish``, NO_RESPONDER if nobody can answer, VALIDATION_ERROR for an address that cannot be asked,
    and LIMIT_REACHED.
    """
    place = {"type": "private", "to": to} if isinstance(to, str) and ":" not in to else {"channel": str(to)}
    inbound = publishing.frame_message(
        **place,
        id=id,
        payload=payload,
        message=message,
        metadata=metadata,
        ask={"timeout": timeout, "durable": durable, "correlation": correlation},
    )
    return publishing.publish_frames([inbound], actor=actor).published[0].id


def reply(
    to_message: str,
    payload: dict[str, Any] | None = None,
    *,
    message: str | None = None,
    error: str | None = None,
    asker: str | None = None,
    id: str | None = None,
    actor: Actor = SYSTEM,
) -> Published:
    """Answer the question ``to_message``, as the client that was asked. ``error`` says why there is no answer.

    ``asker`` is the question's ``reply_to``. It is needed where several clients chose the same id.

    Raises ``BusError`` QUESTION_NOT_FOUND, also for a question to somebody else, QUESTION_ENDED after another reply or after the
    deadline, VALIDATION_ERROR, or FORBIDDEN.
    """
    inbound = publishing.frame_message(
        type=REPLY, to_message=to_message, reply_to=asker, id=id, payload=payload, message=message, error=error
    )
    return publishing.publish_frames([inbound], actor=actor).published[0]


def question(ask: str, *, actor: Actor = SYSTEM) -> QuestionState:
    """Return a question of the actor: its ``state`` (``open``, ``answered`` or ``timeout``), and the reply as ``message``.

    ``message`` is the frame of the reply, a dict. An open question has none.

    Raises ``BusError`` QUESTION_NOT_FOUND. A question is forgotten some time after its end (setting ``idempotency_window``).
    """
    found = state_of(find(checked(actor), ask))
    frame: Any = found.message
    return (
        msgspec.structs.replace(found, message=msgspec.json.decode(frame)) if isinstance(frame, msgspec.Raw) else found
    )


aask = sync_to_async(ask, thread_sensitive=True)
areply = sync_to_async(reply, thread_sensitive=True)
aquestion = sync_to_async(question, thread_sensitive=True)


# --- what became of a question ------------------------------------------------------------------------------------------


def find(actor: Actor, ask: str, client_id: str | None = None) -> Question:
    """Return the question ``ask`` of the actor, or the one that it asked as ``client_id``.

    Raises ``BusError`` QUESTION_NOT_FOUND, also for somebody else's question.
    """
    rows = own_questions(actor, ask)
    found = (rows if client_id is None else rows.filter(client_id=client_id)).first()
    if found is None:
        raise question_not_found(ask)
    return found


def again(key: int) -> Question | None:
    """Return a question's row; None if it is gone."""
    return Question.objects.select_related("channel__room").filter(pk=key).first()


def state_of(row: Question) -> QuestionState:
    """Return a question as its asker sees it, with the reply."""
    state = QuestionState(ask=row.uid, state=row.state, to=asked_of(row), correlation=row.correlation)
    return msgspec.structs.replace(state, message=_reply(row)) if row.state == ANSWERED else state


def asked_of(row: Question) -> str:
    """Return who was asked: a client id, or the address of a work channel."""
    return row.to or str(row.channel.address)


def _reply(row: Question) -> Any:
    inbox = Message.objects.filter(channel__room__name=INBOX_ROOM, channel__name=row.client_id, type=REPLY)
    frame = inbox.filter(seq=row.reply_seq or 0).values_list("frame", flat=True).first()
    # An inbox that was removed and made again has another message at this place.
    if frame is None or b'"to_message":' + quoted(row.uid) not in (data := frame.encode()):
        return None
    return msgspec.Raw(legible(data, row.reply_seq))


def timeout_of(row: Question) -> BusError:
    """Return the error for the asker of a question whose deadline has passed."""
    return ask_timeout(asked_of(row), seconds_between(row.asked_at, row.deadline), row.correlation, row.uid)


# --- the end ------------------------------------------------------------------------------------------------------------


def look(waiting: Collection[int]) -> Look:
    """Look whether a deadline has passed, and which of the questions ``waiting``, by row, have ended. It only reads."""
    overdue = Question.objects.filter(state=OPEN, deadline__lte=Now()).exists()
    ended: set[int] = set()
    if waiting:
        still = Question.objects.filter(pk__in=waiting, state=OPEN).values_list("pk", flat=True)
        ended = set(waiting) - set(still)
    return Look(overdue, ended)


def expire() -> list[Expired]:
    """End the open questions whose deadline has passed, at most :data:`SWEPT`. Return them.

    Every process may call this at the same time, and a question ends once. A question whose row is locked is being answered.
    """
    with transaction.atomic():
        late = Question.objects.filter(state=OPEN, deadline__lte=Now()).order_by("deadline", "pk")
        keys = list(late.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True)[:SWEPT])
        Question.objects.filter(pk__in=keys).update(state=TIMEOUT, ended_at=Now())
        rows = list(Question.objects.filter(pk__in=keys).select_related("channel__room"))
    return [Expired(row.pk, row.client_id, row.principal, row.request_id or None, timeout_of(row)) for row in rows]


def end_in(channel: Channel) -> None:
    """Remove the questions of a channel that goes, in the caller's transaction. Their askers hear CHANNEL_NOT_FOUND."""
    text = "The channel was deleted before an answer came."
    rows = list(Question.objects.filter(channel=channel, state=OPEN).order_by("pk").select_for_update(no_key=True))
    ended = []
    for row in rows:
        asked = row.to or str(channel.address)
        error = BusError(
            ErrorCode.CHANNEL_NOT_FOUND, text, [{"to": asked, "correlation": row.correlation, "message": row.uid}]
        )
        ended.append(EndedQuestion(row.pk, row.client_id, row.principal, frames.error(error, row.request_id or None)))
    Question.objects.filter(channel=channel).delete()
    for first in range(0, len(ended), SWEPT):
        dispatch.notify_on_commit(QuestionsEnded(ended[first : first + SWEPT]))


def disown(client_ids: Collection[str]) -> set[str]:
    """End the open questions of these clients: somebody else got their ids without a proof, and must not get the replies.

    Call it in the transaction of the claims. It waits for no lock. Returns the clients with a question whose row is locked.
    """
    theirs = Question.objects.filter(client_id__in=client_ids, state=OPEN)
    askers = dict(theirs.values_list("pk", "client_id"))
    if not askers:
        return set()
    locking = theirs.filter(pk__in=askers).order_by("pk").select_for_update(no_key=True, skip_locked=True)
    free = set(locking.values_list("pk", flat=True))
    Question.objects.filter(pk__in=free).update(state=TIMEOUT, ended_at=Now())
    return {name for key, name in askers.items() if key not in free}


def forget(age: float, most: int) -> int:
    """Remove questions that ended at least ``age`` seconds ago. Return how many, at most ``most``."""
    old = Question.objects.filter(ended_at__lte=Now() - timedelta(seconds=age)).order_by("ended_at")
    deleted, _ = Question.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:most])).delete()
    return deleted
