"""The work of the log's threads: commit a batch, and turn every failure into errors of its entries."""

from __future__ import annotations

import logging
import time

from django.db import DataError, IntegrityError, OperationalError, connection
from django.db import Error as DatabaseError

from ..db import faults as database
from ..monitoring.failures import reported
from ..protocol.errors import BusError, ErrorCode
from .append import CommitInDoubt, Contended, append_batch, verify
from .entry import Entry, is_passed
from .flight import Abandoned, Flight

logger = logging.getLogger("arqonbus.log")

#: Seconds without a failed batch after which a heartbeat is enough to report that the database is back.
STEADY = 5.0


class Committer:
    """Writes batches in the thread that calls it, over that thread's persistent connection.

    ``timeout`` is how many seconds publishers wait at most. ``window`` is how many seconds a repeated message id is
    recognised.
    """

    def __init__(self, *, timeout: float, window: float) -> None:
        self._timeout = timeout
        self._window = window
        #: Whether the database was unreachable and no transaction has succeeded since.
        self.down = False
        # When the database last failed a batch, in monotonic seconds.
        self._failed_at = 0.0

    def commit(self, flight: Flight) -> bool:
        """Write as many of the batch's entries as possible. Return whether that succeeded without a fault.

        Channels whose rows other transactions lock for longer than the batch's patience are passed over.
        """
        try:
            try:
                self._append(flight)
            except Contended:
                flight.undone()
                self._without_the_locked(flight)
        except Abandoned:
            if flight.apart:
                # The batch was withdrawn because of a lock. The database itself answers.
                flight.passed = flight.entries
            else:
                # The error of a first attempt, if there was one, says more than the timeout of a second attempt.
                self._fail(flight.entries, ErrorCode.UNAVAILABLE, flight.met)
        except CommitInDoubt as problem:
            self._settle(flight.entries, problem)
            flight.passed = [entry for entry in flight.entries if is_passed(entry)]
        except (DataError, IntegrityError):
            self._one_by_one(flight)
        except DatabaseError as problem:
            self._fail(flight.entries, ErrorCode.UNAVAILABLE, problem)
        except Exception:  # noqa: BLE001 - whatever it is, each publisher gets an answer
            self._one_by_one(flight)
        else:
            self._back()
            return True
        return False

    def heard(self) -> None:
        """Note that the database answered other work of the process.

        Soon after a failed batch this does not count.
        """
        if time.monotonic() - self._failed_at > STEADY:
            self._back()

    def _back(self) -> None:
        if self.down:
            self.down = False
            logger.warning("the database accepts messages again", extra={"event": "store_back"})

    def lost(self, problem: BaseException | None, entries: int) -> None:
        """Report, once until it is back, that the database does not answer.

        ``entries`` is the number of entries that failed; 0 if other work of the process met the ``problem``.
        """
        if entries:
            self._failed_at = time.monotonic()
        if not self.down:
            self.down = True
            logger.error(
                "%s Until then publishers get UNAVAILABLE.",
                database.in_words(problem or OperationalError(f"no answer within {self._timeout:g} s")),
                extra={"event": "store_lost", "entries": entries},
            )

    def _append(self, flight: Flight, *, pass_over: bool = False) -> list[Entry]:
        """Append the batch, with one more try on a new connection if the persistent one is broken. Raises as ``append_batch``."""
        kept = connection.connection is not None
        try:
            return self._try(flight, pass_over)
        except (DataError, IntegrityError):
            raise
        except DatabaseError as problem:
            # A persistent connection may have died long ago with a database that has restarted since. Or it leads to a server
            # that no longer accepts writes.
            flight.met = problem
            wrong = database.of_no_use(problem)
            database.give_back(problem)
            if not kept and not wrong:
                raise
            flight.undone()
            return self._try(flight, pass_over)

    def _try(self, flight: Flight, pass_over: bool) -> list[Entry]:
        return append_batch(
            flight.entries,
            window=self._window,
            before_commit=flight.committing,
            patience=flight.patience,
            pass_over=pass_over,
        )

    def _without_the_locked(self, flight: Flight) -> None:
        """Write the entries that wait for no lock. Raises as ``append_batch``."""
        if flight.apart:
            flight.passed = flight.entries
            return
        try:
            flight.passed = self._append(flight, pass_over=True)
        except Contended:
            # The lock belongs to a message id that another transaction has just used. Single channels are tried to find it.
            flight.undone()
            flight.passed = flight.entries

    def _settle(self, batch: list[Entry], cause: Exception) -> None:
        """Find out after a commit in doubt whether the log has the batch. Try for as long as publishers may wait."""
        deadline = time.monotonic() + self._timeout
        while True:
            connection.close()
            try:
                if not verify(batch, patience=max(deadline - time.monotonic(), 0.1)):
                    self._fail(batch, ErrorCode.UNAVAILABLE, cause.__cause__)
                return
            except DatabaseError as problem:
                database.give_back(problem)
                if time.monotonic() > deadline:
                    self._fail(batch, ErrorCode.OUTCOME_UNKNOWN, problem)
                    return
                time.sleep(0.1)

    def _one_by_one(self, flight: Flight) -> None:
        """Write the entries one by one, so that an entry which the database rejects fails only its own publisher."""
        connection.close()
        try:
            # From here on, a part of the batch may be in the log, so the loop can no longer withdraw it.
            flight.committing()
        except Abandoned:
            self._fail(flight.entries, ErrorCode.UNAVAILABLE, None)
            return
        passed: list[Entry] = []
        locked: set[int] = set()
        for entry in flight.entries:
            if entry.channel_id in locked:
                # It must stay behind its predecessor of the same channel.
                passed.append(entry)
                continue
            try:
                append_batch([entry], window=self._window, patience=flight.patience)
            except Contended:
                locked.add(entry.channel_id)
                passed.append(entry)
            except CommitInDoubt as doubt:
                self._settle([entry], doubt)
            except (DataError, IntegrityError, ValueError, TypeError) as own:
                # The database's own words may quote the message, so only the type of the error is logged.
                entry.error = reported(
                    logger,
                    "cannot store a message",
                    detail=type(own).__name__,
                    event="append_failed",
                    channel_id=entry.channel_id,
                )
            except Exception as own:  # noqa: BLE001 - whatever it is, each publisher gets an answer
                self._fail([entry], ErrorCode.UNAVAILABLE, own)
        flight.passed = passed

    def _fail(self, batch: list[Entry], code: ErrorCode, problem: BaseException | None) -> None:
        database.give_back(problem)
        if not self.down and isinstance(problem, DatabaseError):
            problem = database.first_hand(problem)
        self.lost(problem, len(batch))
        for entry in batch:
            entry.error = BusError(code, retry_after=1.0)
