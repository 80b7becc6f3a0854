"""Step 3, commit: the entries are written to their logs.

The entries of an event loop go through ``LogWriter``, which writes many at once. Those of Django code are written in the
caller's transaction. Messages of ephemeral channels are in no log, so this step only finds their repeats.
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
    """The ids of the ephemeral messages that reached this process lately."""
    found: Passed = apps.get_app_config("bus").passed  # type: ignore[attr-defined]
    return found


def pass_by(entry: Entry, ids: Passed, stamp: bytes) -> None:
    """Give an entry of an ephemeral channel its frame, or mark it as a duplicate if ``ids`` has its key.

    A swallowed entry gets no frame. ``stamp`` is the time as ISO text. Raises ``BusError`` VALIDATION_ERROR if the sender has
    used the id in another channel.
    """
    if entry.key is not None:
        before = ids.admit(entry.key, entry.channel_id)
        if before is not None:
            if before != entry.channel_id:
                raise id_taken()
            entry.duplicate = True
            return
    if entry.swallowed:
        return
    entry.frame = frames.finish_message(entry.head, entry.tail, stamp, None)


def foresee_repeats(entries: Sequence[Entry]) -> None:
    """Mark the duplicates among entries of ephemeral channels, before the caller's commit.

    :func:`pass_by` finishes the entries after the commit. Raises ``BusError`` as :func:`pass_by`.
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
    """Write the entries in the caller's transaction, or in a new one. Raises ``BusError``, and errors of the database."""
    append_batch(entries, window=config().idempotency_window)
    for entry in entries:
        if entry.error is not None:
            raise entry.error


def append_late(entries: Sequence[Entry]) -> None:
    """Write the entries after the caller's commit. A refused entry is logged, because the caller can get no error any more.

    Raises ``BusError`` OUTCOME_UNKNOWN, and errors of the database.
    """
    with outcome_told():
        append_batch(entries, window=config().idempotency_window)
    for entry in entries:
        if entry.error is not None:
            log_refused(entry, entry.error)


def log_refused(entry: Entry, problem: BusError) -> None:
    """Log a message that could not be published after the caller's commit."""
    logger.error(
        "could not publish a message after the commit: %s",
        problem.message,
        extra={"event": "append_failed", "channel_id": entry.channel_id},
    )


@contextmanager
def outcome_told() -> Iterator[None]:
    """Turn :class:`CommitInDoubt` into ``BusError`` OUTCOME_UNKNOWN."""
    try:
        yield
    except CommitInDoubt as problem:
        raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem


@contextmanager
def one_transaction() -> Iterator[None]:
    """Open a transaction, or a savepoint of the caller's. If its own commit is in doubt, raises ``BusError`` OUTCOME_UNKNOWN."""
    outermost = not connection.in_atomic_block
    committing = False
    try:
        with transaction.atomic():
            yield
            committing = outermost
    except DatabaseError as problem:
        # After an IntegrityError the database has rolled back, so that commit is not in doubt.
        if committing and connection.vendor == "postgresql" and not isinstance(problem, IntegrityError):
            raise BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0) from problem
        raise
