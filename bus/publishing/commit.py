"""Step 3, commit: entries get their places in their logs.

The entries of a loop go through the gathering ``LogWriter``. Those of Django code are written in the caller's transaction.
Messages of ephemeral channels are in no log: here it is only found out which of them are repeats.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.apps import apps
from django.db import Error as DatabaseError
from django.db import IntegrityError, connection, transaction

from ..conf.settings import config
from ..log import CommitInDoubt, Entry, Passed, append_batch, id_taken
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode

logger = logging.getLogger("arqonbus.publishing")


def passed() -> Passed:
    """The ids of ephemeral messages that came to this process lately."""
    found: Passed = apps.get_app_config("bus").passed  # type: ignore[attr-defined]
    return found


def pass_by(entry: Entry, ids: Passed, stamp: bytes) -> None:
    """Finish an entry of an ephemeral channel with its frame, or as a duplicate if ``ids`` has its key. ``stamp`` is ISO text.

    Raises ``BusError`` VALIDATION_ERROR for an id that its sender used for another channel's message.
    """
    if entry.key is not None:
        before = ids.admit(entry.key, entry.channel_id)
        if before is not None:
            if before != entry.channel_id:
                raise id_taken()
            entry.duplicate = True
            return
    entry.frame = frames.finish_message(entry.head, entry.tail, stamp, None)


def foresee_repeats(entries: Sequence[Entry]) -> None:
    """Mark the duplicates among entries of ephemeral channels that are passed by after the caller's commit.

    Raises ``BusError`` as :func:`pass_by`.
    """
    here: dict[str, int] = {}
    for entry in entries:
        if entry.key is None or not entry.context.ephemeral:
            continue
        before = passed().channel_of(entry.key) or here.get(entry.key)
        if before is None:
            here[entry.key] = entry.channel_id
        elif before != entry.channel_id:
            raise id_taken()
        else:
            entry.duplicate = True


def append(entries: Sequence[Entry]) -> None:
    """Write the entries in the caller's transaction, or one of their own. Raises ``BusError``, and the database's errors."""
    append_batch(entries, window=config().idempotency_window)
    for entry in entries:
        if entry.error is not None:
            raise entry.error


def append_late(entries: Sequence[Entry]) -> None:
    """Write the entries after the caller's commit. An entry that is refused is logged: there is nobody to raise it to."""
    with outcome_told():
        append_batch(entries, window=config().idempotency_window)
    for entry in entries:
        if entry.error is not None:
            log_refused(entry, entry.error)


def log_refused(entry: Entry, problem: BusError) -> None:
    """Log a message that could not be published after its caller's commit."""
    logger.error(
        "could not publish a message after the commit: %s",
        problem.message,
        extra={"event": "append_failed", "channel_id": entry.channel_id},
    )


@contextmanager
def outcome_told() -> Iterator[None]:
    """Turn a commit in doubt into ``BusError`` OUTCOME_UNKNOWN."""
    try:
        yield
    except CommitInDoubt as problem:
        raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem


@contextmanager
def one_transaction() -> Iterator[None]:
    """A transaction, or a part of the caller's. Its own commit in doubt becomes ``BusError`` OUTCOME_UNKNOWN."""
    outermost = not connection.in_atomic_block
    committing = False
    try:
        with transaction.atomic():
            yield
            committing = outermost
    except DatabaseError as problem:
        # What the database refuses by its rules is undone for sure.
        if committing and connection.vendor == "postgresql" and not isinstance(problem, IntegrityError):
            raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem
        raise
