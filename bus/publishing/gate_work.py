"""The work of a gate's thread: messages pass their gates and go into the log, and every failure becomes their error."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from django.db import DataError, IntegrityError, InterfaceError, OperationalError, connection
from django.db import Error as DatabaseError

from ..db import faults
from ..log import Entry, append_batch, verify
from ..log.flight import Abandoned, Flight
from ..protocol.errors import BusError, ErrorCode
from . import commit, gating
from .gating import Candidate, passes_by

logger = logging.getLogger("arqonbus.gates")


def keep(candidates: Sequence[Candidate], flight: Flight, *, left: float, timeout: float, window: float) -> None:
    """Let the messages of one channel pass their gates, and append them in one transaction. Nothing is raised.

    The loop may withdraw the ``flight`` before the commit. ``left`` is how many seconds the gates have. ``timeout`` is how
    many seconds the outcome of a commit may stay unknown. ``window`` is how many seconds a repeated id is recognised.
    """
    entries = [candidate.entry for candidate in candidates]
    try:
        _keep(candidates, flight, time.monotonic() + left, window)
    except Abandoned:
        _refuse(entries, gating.takes_too_long())
    except BusError as problem:
        if problem.code == ErrorCode.OUTCOME_UNKNOWN:
            _find_out(entries, timeout)
        else:
            _refuse(entries, problem)
    except DatabaseError as problem:
        faults.give_back(problem)
        if len(candidates) > 1 and isinstance(problem, (DataError, IntegrityError)):
            # A part that the database rejects fails only its own publisher.
            for candidate in candidates:
                keep([candidate], flight, left=left, timeout=timeout, window=window)
            return
        if not isinstance(problem, (OperationalError, InterfaceError)):
            # The database's own words may quote the message, so only the type of the error is logged.
            logger.error(
                "cannot store a message: %s",
                type(problem).__name__,
                extra={"event": "append_failed", "channel_id": entries[0].channel_id},
            )
        _refuse(entries, BusError(ErrorCode.UNAVAILABLE, retry_after=1.0))
    except BaseException as problem:  # noqa: BLE001 - whatever it is, each publisher gets an answer
        _refuse(entries, gating.failed(candidates[0].gates, problem))
        connection.close()


def _keep(candidates: Sequence[Candidate], flight: Flight, deadline: float, window: float) -> None:
    """As :func:`keep`, once more on a new connection where the kept one had died. Raises what happens."""
    faults.begin()
    kept = connection.connection is not None
    commit.foresee_repeats([candidate.entry for candidate in candidates])

    def work() -> None:
        gating.pass_gates(candidates)
        kept = [candidate.entry for candidate in candidates if not passes_by(candidate.entry)]
        append_batch([entry for entry in kept if not entry.swallowed], window=window)
        gating.settle(candidates)

    try:
        gating.in_transaction(work, candidates, deadline=deadline, decided=flight.committing, undone=flight.undone)
    except (OperationalError, InterfaceError) as problem:
        faults.give_back(problem)
        if not kept or faults.outrun(problem):
            raise
        flight.undone()
        gating.in_transaction(work, candidates, deadline=deadline, decided=flight.committing, undone=flight.undone)


def _find_out(entries: Sequence[Entry], timeout: float) -> None:
    """Find out after a commit in doubt whether the log has the messages. Try for as long as publishers may wait."""
    deadline = time.monotonic() + timeout
    while True:
        connection.close()
        try:
            if not verify(entries, patience=max(deadline - time.monotonic(), 0.1)):
                _refuse(entries, BusError(ErrorCode.UNAVAILABLE, retry_after=1.0))
            return
        except DatabaseError as problem:
            faults.give_back(problem)
            if time.monotonic() > deadline:
                _refuse(entries, BusError(ErrorCode.OUTCOME_UNKNOWN, retry_after=1.0))
                return
            time.sleep(0.1)


def _refuse(entries: Sequence[Entry], problem: BusError) -> None:
    for entry in entries:
        # What a transaction that was rolled back had given it.
        entry.seq, entry.duplicate, entry.swallowed = None, False, False
        if entry.effect is not None:
            entry.effect.reset()
        entry.error = problem
