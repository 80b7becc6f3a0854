"""The questions of one batch of entries, in the batch's transaction.

A question is written with its message. A reply locks the row of its question, so of several replies, or of a reply and the
deadline, one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db.models import BigIntegerField, BooleanField, Case, Count, ExpressionWrapper, Q, Value, When
from django.db.models.functions import Now

from ..models import Question
from ..protocol.errors import BusError, ErrorCode
from .entry import Entry
from .question_effects import Answering, Asking

OPEN, ANSWERED, TIMEOUT = Question.State.OPEN.value, Question.State.ANSWERED.value, Question.State.TIMEOUT.value


class _Row:
    """A question that a batch answers."""

    __slots__ = ("reply_seq", "state")

    def __init__(self, state: str, reply_seq: int | None, late: bool) -> None:
        # A sweep follows and tells the asker.
        self.state = TIMEOUT if state == OPEN and late else state
        self.reply_seq = reply_seq


class _Asked(NamedTuple):
    """A question whose id an asker chose before."""

    state: str
    timeout: float


class _New(NamedTuple):
    entry: Entry
    asking: Asking
    seq: int


class QuestionBatch:
    """The questions of a batch. ``asking`` and ``answering`` are the entries with such an effect, each with it.

    With ``pass_over``, ``locked`` has the channels of replies to questions whose rows other transactions lock.
    """

    def __init__(
        self,
        asking: Sequence[tuple[Entry, Asking]],
        answering: Sequence[tuple[Entry, Answering]],
        *,
        pass_over: bool,
    ) -> None:
        for _, effect in (*asking, *answering):
            effect.reset()
        self.locked: set[int] = set()
        self._asked: dict[tuple[str, str], _Asked] = {}
        self._counts: dict[str, int] = {}
        self._rows: dict[int, _Row] = {}
        self._new: list[_New] = []
        self._answered: dict[int, int] = {}
        if asking:
            self._read_askers(asking)
        if answering:
            self._lock(answering, pass_over=pass_over)

    def _read_askers(self, asking: Sequence[tuple[Entry, Asking]]) -> None:
        named = [(entry.uid, effect.client_id) for entry, effect in asking if entry.key is not None]
        if named:
            late = ExpressionWrapper(Q(deadline__lte=Now()), BooleanField())
            rows = Question.objects.filter(uid__in={uid for uid, _ in named}).annotate(late=late)
            for uid, client_id, state, is_late, since, until in rows.values_list(
                "uid", "client_id", "state", "late", "asked_at", "deadline"
            ):
                self._asked[client_id, uid] = _Asked(_Row(state, None, is_late).state, seconds_between(since, until))
        limited = {effect.client_id for _, effect in asking if effect.most}
        if limited:
            waiting = Question.objects.filter(client_id__in=limited, state=OPEN).order_by().values_list("client_id")
            self._counts = dict(waiting.annotate(Count("id")))

    def _lock(self, answering: Sequence[tuple[Entry, Answering]], *, pass_over: bool) -> None:
        wanted = {effect.question for _, effect in answering}
        rows = Question.objects.filter(pk__in=wanted).order_by("pk")
        late = ExpressionWrapper(Q(deadline__lte=Now()), BooleanField())
        locking = rows.select_for_update(no_key=True, skip_locked=pass_over).annotate(late=late)
        self._rows = {pk: _Row(*row) for pk, *row in locking.values_list("pk", "state", "reply_seq", "late")}
        missing = wanted - self._rows.keys()
        if pass_over and missing:
            held = set(Question.objects.filter(pk__in=missing).values_list("pk", flat=True))
            self.locked = {entry.channel_id for entry, effect in answering if effect.question in held}

    # --- one entry after another --------------------------------------------------------------------------------------

    def repeated(self, entry: Entry, effect: Asking | Answering) -> None:
        """Decide on an entry whose key is known: an asker learns that the deadline of its question has passed."""
        effect.settled = True
        if isinstance(effect, Asking):
            asked = self._asked.get((effect.client_id, entry.uid))
            if asked is not None and asked.state == TIMEOUT:
                to = effect.to or str(entry.context.address)
                entry.error = ask_timeout(to, asked.timeout, effect.correlation, entry.uid)
            return
        row = self._rows.get(effect.question)
        if row is None or row.reply_seq != entry.seq:
            # Otherwise the answer to another question of this asker would be lost as a repeat.
            message = "You sent another message with this id to this asker. Give each message its own id."
            entry.error = BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "id", "message": message}])

    def admits(self, entry: Entry, effect: Asking | Answering) -> bool:
        """Decide whether the message of an entry goes into the log. An entry that is refused gets its ``error``."""
        effect.settled = True
        entry.error = self._refusal(entry, effect)
        return entry.error is None

    def _refusal(self, entry: Entry, effect: Asking | Answering) -> BusError | None:
        if isinstance(effect, Answering):
            row = self._rows.get(effect.question)
            if row is None:
                return question_not_found(effect.of)
            return None if row.state == OPEN else question_ended(effect.of, row.state)
        if (effect.client_id, entry.uid) in self._asked:
            message = "You asked another question with this id. Choose a new one."
            return BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "id", "message": message}])
        if effect.most and self._counts.get(effect.client_id, 0) >= effect.most:
            text = f"You have {effect.most} open questions, which is the limit. Wait for an answer first."
            return BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": "asks", "value": effect.most}], 1.0)
        return None

    def keep(self, entry: Entry, effect: Asking | Answering, seq: int) -> None:
        """Do what an admitted entry does besides its message, which gets ``seq``."""
        if isinstance(effect, Asking):
            self._asked[effect.client_id, entry.uid] = _Asked(OPEN, effect.timeout)
            self._counts[effect.client_id] = self._counts.get(effect.client_id, 0) + 1
            self._new.append(_New(entry, effect, seq))
        else:
            row = self._rows[effect.question]
            row.state, row.reply_seq = ANSWERED, seq
            self._answered[effect.question] = seq

    def write(self, moment: Any) -> None:
        """Write what the entries changed. The database says the times, and not ``moment``: the clocks of machines differ."""
        # Nothing is sent for an empty list.
        Question.objects.bulk_create(
            [
                Question(
                    channel_id=entry.channel_id,
                    seq=seq,
                    uid=entry.uid,
                    to=asking.to,
                    client_id=asking.client_id,
                    principal=asking.principal,
                    correlation=asking.correlation,
                    request_id=asking.request_id,
                    trace=asking.trace,
                    asked_at=Now(),
                    deadline=Now() + timedelta(seconds=asking.timeout),
                )
                for entry, asking, seq in self._new
            ]
        )
        if self._answered:
            seqs = [When(pk=pk, then=Value(seq)) for pk, seq in self._answered.items()]
            reply_seq = Case(*seqs, output_field=BigIntegerField())
            rows = Question.objects.filter(pk__in=self._answered)
            rows.update(state=ANSWERED, ended_at=Now(), reply_seq=reply_seq)


def question_not_found(of: str) -> BusError:
    """Return the error for an unknown question, and for one that the caller may not answer or see."""
    return BusError(ErrorCode.QUESTION_NOT_FOUND, details=[{"message": of}])


def question_ended(of: str, state: str) -> BusError:
    """Return the error for a reply to a question that was answered, or whose deadline has passed."""
    return BusError(ErrorCode.QUESTION_ENDED, details=[{"message": of, "state": state}])


def seconds_between(asked_at: datetime, deadline: datetime) -> float:
    """Return for how many seconds a question waits for its reply."""
    return round((deadline - asked_at).total_seconds(), 2)


def ask_timeout(to: str, timeout: float, correlation: str, of: str) -> BusError:
    """Return the error that an asker gets at the deadline.

    ``to`` is the client or the channel that did not answer within ``timeout`` seconds.
    """
    text = f"{to} did not answer within {timeout:g} s."
    return BusError(ErrorCode.ASK_TIMEOUT, text, [{"to": to, "correlation": correlation, "message": of}])
