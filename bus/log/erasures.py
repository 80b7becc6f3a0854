"""Erase messages for the law: blank what the tables keep of their content, and note it for the memory of every process.

A log has no holes, so an erased message keeps its place. Everything that belongs to it goes with it: its amendments, the
other end of a stream, the result of its job, and the arguments of a decision.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

import msgspec
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from ..db import reading
from ..models import Amendment, Decision, Erasure, Job, Message, Question, Stream
from ..protocol.amending import ERASED_END, REACT, UNREACT, ErasedMessage, erased
from ..protocol.kept import legible

#: Messages that are read and written at a time.
CHUNK = 200
#: For how long the rows of erasures stay.
NOTED = timedelta(days=1)
#: The newest erasures that each process looks at.
LOOK = 200


class _Amendment(msgspec.Struct):
    """The keys of an erased frame that show an amendment."""

    of_seq: int = 0
    do: str = ""


_decode = msgspec.json.Decoder(_Amendment).decode


def erase(channel_id: int, seqs: Collection[int]) -> list[ErasedMessage]:
    """Erase messages of a log, and what belongs to them. Return those that were not erased before, in order.

    Call it in a transaction that has locked the row of the channel. Its open streams among them must have ended.
    """
    whole = _with_what_belongs(channel_id, set(seqs))
    there = Message.objects.filter(channel_id=channel_id).exclude(frame__endswith=ERASED_END.decode())
    made: list[ErasedMessage] = []
    ordered = sorted(whole)
    for start in range(0, len(ordered), CHUNK):
        rows = list(
            there.filter(seq__in=ordered[start : start + CHUNK]).order_by("seq").only("id", "seq", "uid", "frame")
        )
        for row in rows:
            frame = erased(legible(row.frame.encode(), row.seq))
            row.frame = frame.decode()
            made.append(_told(row.seq, row.uid, row.frame))
        Message.objects.bulk_update(rows, ["frame"])
        _forget(channel_id, ordered[start : start + CHUNK])
    Erasure.objects.bulk_create([Erasure(channel_id=channel_id, seq=row.seq) for row in made])
    return made


def _told(seq: int, uid: str, frame: str) -> ErasedMessage:
    told = _decode(frame)
    return ErasedMessage(seq, uid, told.of_seq, told.do)


def messages(channel_id: int, seqs: Collection[int]) -> list[ErasedMessage]:
    """Return erased messages of a log as its members are told of them."""
    rows = Message.objects.filter(channel_id=channel_id, seq__in=seqs).order_by("seq")
    return [_told(*row) for row in rows.values_list("seq", "uid", "frame")]


def _with_what_belongs(channel_id: int, seqs: set[int]) -> set[int]:
    """Return the messages, the openings and ends of their streams, the parts of their decisions, and all their amendments."""
    found = set(seqs)
    for rows, one, other in (
        (Stream.objects.filter(channel_id=channel_id), "seq", "end_seq"),
        (Decision.objects.filter(channel_id=channel_id), "seq", "made_seq"),
    ):
        for start in range(0, len(seqs), CHUNK):
            some = sorted(seqs)[start : start + CHUNK]
            pairs = rows.filter(Q(**{f"{one}__in": some}) | Q(**{f"{other}__in": some})).values_list(one, other)
            found |= {seq for pair in pairs for seq in pair if seq is not None}
    ordered = sorted(found)
    for start in range(0, len(ordered), CHUNK):
        rows_ = Amendment.objects.filter(channel_id=channel_id, of_seq__in=ordered[start : start + CHUNK])
        found |= set(rows_.values_list("seq", flat=True))
    return found


def _forget(channel_id: int, seqs: Collection[int]) -> None:
    """Blank what other tables keep of messages. What an erased edit or delete did is still known, and no text of it."""
    amendments = Amendment.objects.filter(channel_id=channel_id)
    amendments.filter(Q(of_seq__in=seqs) | Q(seq__in=seqs, do__in=(REACT, UNREACT))).delete()
    # The parts go with their streams, also those that an end has not joined.
    Stream.objects.filter(channel_id=channel_id, seq__in=seqs).delete()
    jobs = Job.objects.filter(channel_id=channel_id, seq__in=seqs)
    jobs.update(result="", errors=[])
    # A job without its message is no work.
    jobs.filter(state__in=(Job.State.READY, Job.State.DEAD)).update(state=Job.State.DISCARDED, ended_at=Now())
    Question.objects.filter(channel_id=channel_id, seq__in=seqs).update(correlation="", request_id="", trace="")
    blank_decisions(Q(channel_id=channel_id) & (Q(seq__in=seqs) | Q(made_seq__in=seqs)))


def blank_decisions(wanted: Q) -> None:
    """Blank the texts and arguments of decisions. Who decided, and how, stays.

    Each gets its id as its key: those of one asker must differ.
    """
    Decision.objects.filter(wanted).update(
        key=F("uid"), digest="", title="", action="", args="{}", schema=None, comment=""
    )
    Decision.objects.filter(wanted, answer_args__isnull=False).update(answer_args="{}")


def newest() -> list[tuple[int, int, int]]:
    """Return the newest erasures, newest first: the id, the channel and the seq of each."""
    return list(reading.rows(Erasure).order_by("-id").values_list("id", "channel_id", "seq")[:LOOK])


def forget_erasures(window: float, limit: int) -> int:
    """Remove the notes of erasures that every process has seen long ago, at most ``limit``. Return how many were removed.

    They stay for ``window`` seconds, and at least for :data:`NOTED`.
    """
    since = timezone.now() - max(NOTED, timedelta(seconds=window))
    # The oldest come first, so a few rows are read where none is old enough.
    oldest = list(Erasure.objects.order_by("id").values_list("id", "at")[:limit])
    return Erasure.objects.filter(id__in=[key for key, at in oldest if at < since]).delete()[0]
