"""What the log's threads do with a batch: commit it, and turn every failure into the entries' errors."""

from __future__ import annotations

import logging
import time

from django.db import DataError, IntegrityError, OperationalError, connection
from django.db import Error as DatabaseError

from ..db import faults as database
from ..protocol.errors import BusError, ErrorCode
from .entry import Entry
from .flight import Abandoned, Flight
from .store import CommitInDoubt, Contended, append_batch, verify

logger = logging.getLogger("arqonbus.log")

#: Seconds without a failed batch after which a sign of life is enough to say that the database is back.
STEADY = 5.0


class Committer:
    """Works on flights in whatever thread calls it, with that thread's kept connection."""

    def __init__(self, *, timeout: float, window: float) -> None:
        self._timeout = timeout
        self._window = window
        #: Whether the database was found away, and nothing has gone well since.
        self.down = False
        # When a batch last failed for it.
        self._failed_at = 0.0

    def commit(self, flight: Flight) -> bool:
        """Write what of the flight's entries can be written; true if that went without a fault.

        Channels whose rows other transactions hold for longer than the flight's patience are passed over.
        """
        try:
            try:
                self._append(flight)
            except Contended:
                flight.undone()
                self._without_the_locked(flight)
        except Abandoned:
            if flight.apart:
                # Given up for a lock, not for a database that does not answer.
                flight.passed = flight.entries
            else:
                # What the first attempt met, where there was one: that a second one waited in vain tells less.
                self._fail(flight.entries, ErrorCode.UNAVAILABLE, flight.met)
        except CommitInDoubt as problem:
            self._settle(flight.entries, problem)
            flight.passed = [entry for entry in flight.entries if entry.seq is None and entry.error is None]
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
        """The database answered somebody else. That counts while no batch of ours has just failed."""
        if time.monotonic() - self._failed_at > STEADY:
            self._back()

    def _back(self) -> None:
        if self.down:
            self.down = False
            logger.warning("the database accepts messages again", extra={"event": "store_back"})

    def lost(self, problem: BaseException | None, entries: int) -> None:
        """Note, and say once, that the database does not answer: to ``entries``, or (0) to somebody else."""
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
        """Append the batch, on a fresh connection where the kept one had died. Raises as ``append_batch``."""
        kept = connection.connection is not None
        try:
            return self._try(flight, pass_over)
        except (DataError, IntegrityError):
            raise
        except DatabaseError as problem:
            # A connection that was kept may have died long ago, with the restart of a database that is back by now, or lead
            # to a server that is no longer the one that takes writes.
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
        """Write what waits for no lock. Raises as ``append_batch``."""
        if flight.apart:
            flight.passed = flight.entries
            return
        try:
            flight.passed = self._append(flight, pass_over=True)
        except Contended:
            # It is a message id that another transaction has just used; whose, is found out channel by channel.
            flight.undone()
            flight.passed = flight.entries

    def _settle(self, batch: list[Entry], cause: Exception) -> None:
        """After a commit in doubt: ask the log, for as long as publishers may wait."""
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
        """One entry that the database will not take costs only its own publisher."""
        connection.close()
        try:
            # Some of them will be there and some not, so from here on the batch cannot be withdrawn as a whole.
            flight.committing()
        except Abandoned:
            self._fail(flight.entries, ErrorCode.UNAVAILABLE, None)
            return
        passed: list[Entry] = []
        locked: set[int] = set()
        for entry in flight.entries:
            if entry.channel_id in locked:
                # Behind its predecessor.
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
                # The database's own words may quote the message; the kind of the fault is enough.
                logger.error(
                    "cannot store a message: %s",
                    type(own).__name__,
                    extra={"event": "append_failed", "channel_id": entry.channel_id},
                )
                entry.error = BusError(ErrorCode.INTERNAL_ERROR)
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
