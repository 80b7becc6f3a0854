"""The jobs that one batch of entries brings, in the batch's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection

from .entry import Entry
from .job_effects import NewJob
from .jobs_sql import statements


def with_jobs(
    entries: Sequence[Entry], effects: list[Entry], positions: Mapping[int, tuple[int, str, bool]]
) -> list[Entry]:
    """Make jobs of the messages to work channels, and of no others. Return the entries with effects.

    ``positions`` are the locked channels (``sql.lock_heads``). A publisher may have known a channel as it was before. Under the
    lock of its row it is known as it is.
    """
    working = {key for key, position in positions.items() if position[2]}
    missing = [entry for entry in entries if entry.channel_id in working and entry.effect is None] if working else []
    wrong = [entry for entry in effects if isinstance(entry.effect, NewJob) and entry.channel_id not in working]
    wrong = [entry for entry in wrong if entry.channel_id in positions]
    if not missing and not wrong:
        return effects
    for entry in missing:
        entry.effect = NewJob()
    for entry in wrong:
        assert isinstance(entry.effect, NewJob)
        entry.effect = entry.effect.question
    return [entry for entry in entries if entry.effect is not None]


class JobBatch:
    """Gathers the jobs of a batch's messages, and inserts them with one statement."""

    def __init__(self, cursor: Any, effects: Sequence[NewJob]) -> None:
        self._cursor = cursor
        self._new: list[tuple[Entry, NewJob, int]] = []
        for effect in effects:
            effect.reset()

    def keep(self, entry: Entry, effect: NewJob, seq: int) -> None:
        """Note the job of an admitted entry, whose message gets ``seq``."""
        effect.settled = True
        self._new.append((entry, effect, seq))

    def write(self, moment: Any) -> None:
        """Insert the jobs. ``moment`` is the time in the database's form; PostgreSQL prefers its own clock."""
        adapt = connection.ops.adapt_datetimefield_value
        rows = [
            (
                entry.channel_id, seq, entry.uid, len(entry.frame), effect.question is not None,
                None if effect.due_at is None else adapt(effect.due_at),
            )
            for entry, effect, seq in self._new
        ]  # fmt: skip
        if rows:
            statements().insert(self._cursor, rows, moment)
