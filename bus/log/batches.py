"""What the entries of one transaction do besides their messages: to streamed messages and to questions.

Each kind of effect has a batch of its own, which reads and locks its rows at once. A transaction without such an effect makes
none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .entry import Entry
from .question_batch import QuestionBatch
from .question_effects import Answering, Asking
from .streamed_batch import StreamBatch


class Batches:
    """The batches of a transaction. ``effects`` are the entries that have an effect.

    ``patience`` and ``pass_over`` are those of ``append_batch``. ``locked`` has the channels of entries whose rows other
    transactions lock.
    """

    def __init__(self, cursor: Any, effects: Sequence[Entry], *, patience: float | None, pass_over: bool) -> None:
        asking = [(entry, entry.effect) for entry in effects if isinstance(entry.effect, Asking)]
        answering = [(entry, entry.effect) for entry in effects if isinstance(entry.effect, Answering)]
        streamed = [entry for entry in effects if not isinstance(entry.effect, Asking | Answering)]
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

    def repeated(self, entry: Entry) -> None:
        """Tell an entry whose key is known what its first copy did."""
        effect = entry.effect
        if isinstance(effect, Asking | Answering):
            self._questions.repeated(entry, effect)
        else:
            self._streams.repeated(entry)

    def admits(self, entry: Entry) -> bool:
        """Decide on an entry. Return whether its message goes into the log. An entry that is refused gets its ``error``."""
        effect = entry.effect
        if isinstance(effect, Asking | Answering):
            return self._questions.admits(entry, effect)
        return self._streams.admits(entry)

    def keep(self, entry: Entry, seq: int) -> bytes:
        """Do what an admitted entry does besides its message, which gets ``seq``. Return the message's tail."""
        effect = entry.effect
        if isinstance(effect, Asking | Answering):
            self._questions.keep(entry, effect, seq)
            return entry.tail
        return self._streams.keep(entry, seq)

    def write(self, moment: Any) -> None:
        """Write what the entries changed. ``moment`` is the time in the database's form."""
        for write in self._writes:
            write(moment)
