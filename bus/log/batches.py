"""What the entries of one transaction do besides their messages: to streamed messages, questions, jobs and other messages.

Each kind of effect has a batch of its own, which reads and locks its rows at once. A transaction without such an effect makes
none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .amend_batch import AmendBatch
from .amend_effects import Amending
from .effects import Effect
from .entry import Entry
from .job_batch import JobBatch
from .job_effects import NewJob
from .question_batch import QuestionBatch
from .question_effects import Answering, Asking
from .streamed_batch import StreamBatch


class Batches:
    """The batches of a transaction. ``effects`` are the entries that have an effect.

    ``patience`` and ``pass_over`` are those of ``append_batch``. ``locked`` has the channels of entries whose rows other
    transactions lock.
    """

    def __init__(self, cursor: Any, effects: Sequence[Entry], *, patience: float | None, pass_over: bool) -> None:
        jobs = [entry.effect for entry in effects if isinstance(entry.effect, NewJob)]
        asking = [(entry, question) for entry in effects if (question := _question(entry.effect)) is not None]
        answering = [(entry, entry.effect) for entry in effects if isinstance(entry.effect, Answering)]
        amending = [(entry, entry.effect) for entry in effects if isinstance(entry.effect, Amending)]
        streamed = [entry for entry in effects if not isinstance(entry.effect, _OTHERS)]
        self.locked: set[int] = set()
        self._writes: list[Callable[[Any], None]] = []
        if streamed:
            self._streams = StreamBatch(cursor, streamed, patience=patience, pass_over=pass_over)
            self.locked |= self._streams.locked
            self._writes.append(self._streams.write)
        if asking or answering:
            self._questions = QuestionBatch(asking, answering, pass_over=pass_over)
            self.locked |= self._questions.locked
            self._writes.append(self._questions.write)
        if amending:
            self._amendments = AmendBatch(amending)
            self._writes.append(self._amendments.write)
        if jobs:
            self._jobs = JobBatch(cursor, jobs)
            self._writes.append(self._jobs.write)

    def repeated(self, entry: Entry) -> None:
        """Tell an entry whose key is known what its first copy did."""
        effect = entry.effect
        if not isinstance(effect, _OTHERS):
            self._streams.repeated(entry)
        elif isinstance(effect, Amending):
            effect.settled = True
        elif (of_question := _of_question(effect)) is not None:
            self._questions.repeated(entry, of_question)

    def admits(self, entry: Entry) -> bool:
        """Decide on an entry. Return whether its message goes into the log. An entry that is refused gets its ``error``."""
        effect = entry.effect
        if not isinstance(effect, _OTHERS):
            return self._streams.admits(entry)
        if isinstance(effect, Amending):
            return self._amendments.admits(entry, effect)
        of_question = _of_question(effect)
        return of_question is None or self._questions.admits(entry, of_question)

    def keep(self, entry: Entry, seq: int) -> bytes:
        """Do what an admitted entry does besides its message, which gets ``seq``. Return the message's tail."""
        effect = entry.effect
        if not isinstance(effect, _OTHERS):
            return self._streams.keep(entry, seq)
        if isinstance(effect, Amending):
            self._amendments.keep(entry, effect, seq)
            return entry.tail
        if (of_question := _of_question(effect)) is not None:
            self._questions.keep(entry, of_question, seq)
        if isinstance(effect, NewJob):
            self._jobs.keep(entry, effect, seq)
        return entry.tail

    def write(self, moment: Any) -> None:
        """Write what the entries changed. ``moment`` is the time in the database's form."""
        for write in self._writes:
            write(moment)


#: The effects that do nothing to a streamed message.
_OTHERS = (Asking, Answering, NewJob, Amending)


def _question(effect: Effect | None) -> Asking | None:
    """Return the question that an entry asks, by itself or with its job."""
    if isinstance(effect, NewJob):
        return effect.question
    return effect if isinstance(effect, Asking) else None


def _of_question(effect: Effect) -> Asking | Answering | None:
    """Return what an entry does to a question."""
    return effect if isinstance(effect, Answering) else _question(effect)
