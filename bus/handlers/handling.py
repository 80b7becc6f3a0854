"""One message and one handler: the call and the move of the position are one transaction."""

from __future__ import annotations

import logging
from datetime import timedelta
from enum import Enum
from typing import NamedTuple

from asgiref.sync import async_to_sync
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.utils import timezone

from ..db.repeating import repeated
from ..log import first_seq, hops
from ..models import Channel, HandlerPosition, Message, Room
from ..monitoring.failures import new_reference, where
from ..protocol.amending import ERASED_END, is_erased
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from ..protocol.names import SERVER, Address
from ..services import publish
from . import positions
from .registry import DEAD, HandledMessage, Registered

logger = logging.getLogger("arqonbus.handlers")

#: The longest delay before the next attempt, in seconds.
LONGEST_DELAY = 3600.0
#: Seconds for which an asynchronous handler has its position without a sign of life of its process.
LEASE = 30.0
#: Messages of other types that one transaction passes over.
PASSED = 2000


class Outcome(Enum):
    """What became of one look at a position."""

    HANDLED = "handled"
    FAILED = "failed"
    #: Only messages that the handler does not get were passed over. There may be more.
    PASSED = "passed"
    EMPTY = "empty"
    #: Another process has the position.
    BUSY = "busy"


class Result(NamedTuple):
    """The outcome, and the exception of a handler that failed."""

    outcome: Outcome
    problem: Exception | None = None


class _Found(NamedTuple):
    message: HandledMessage
    uid: str
    hops: int


def handle_next(registered: Registered, position_id: int, holder: str) -> Result:
    """Call a handler with the next message of a position. ``holder`` names the calling thread.

    Raises the database's error if that is away or busy. Nothing has changed then.
    """
    if registered.asynchronous:
        return _Leased(registered, position_id, holder).handle()
    return _Transaction(registered, position_id).handle()


class _Attempt:
    """The common parts of both ways to call a handler."""

    def __init__(self, registered: Registered, position_id: int) -> None:
        self.registered = registered
        self.position_id = position_id
        self.found: _Found | None = None
        self.result = Result(Outcome.EMPTY)

    def next_of(self, position: HandlerPosition) -> bool:
        """Look for the next message of a locked position. Return False, with the result, if there is none."""
        before = position.seq
        self.found = _next(position, self.registered)
        if self.found is not None:
            return True
        if position.seq != before:
            _save(position)
            self.result = Result(Outcome.PASSED)
        return False

    def failed(self, position: HandlerPosition, problem: Exception) -> None:
        """Note a failure at a locked position: another attempt, or the end of the attempts."""
        assert self.found is not None
        self.result = Result(Outcome.FAILED, problem)
        registered, message = self.registered, self.found.message
        reference = _log_failure(registered, message, problem)
        position.failed += 1
        position.attempt += 1
        position.error = f"{type(problem).__name__} ({reference})"[:300]
        position.retry_at = None
        loop = isinstance(problem, BusError) and problem.code == ErrorCode.LOOP_DETECTED
        if position.attempt < registered.attempts and not loop:
            position.retry_at = timezone.now() + timedelta(seconds=min(2.0**position.attempt, LONGEST_DELAY))
        elif registered.on_error == "stop" or not _put_aside(registered, position, self.found, problem, reference):
            position.state = HandlerPosition.State.STOPPED
        else:
            _move(position, message.seq)
        _save(position)

    def handled(self, position: HandlerPosition) -> None:
        """Move a locked position behind the message."""
        assert self.found is not None
        position.handled += 1
        position.error = ""
        _move(position, self.found.message.seq)
        _save(position)
        self.result = Result(Outcome.HANDLED)


class _Transaction(_Attempt):
    """A function that runs in the transaction that moves its position."""

    def handle(self) -> Result:
        try:
            with hops.handling(), transaction.atomic():
                self._in_transaction()
        except (OperationalError, InterfaceError):
            raise
        except Exception as problem:  # noqa: BLE001 - the commit itself refused what the handler did
            self._refused(problem)
        return self.result

    def _in_transaction(self) -> None:
        position = positions.locked(self.position_id)
        if position is None:
            self.result = Result(Outcome.BUSY)
            return
        if not self.next_of(position):
            return
        assert self.found is not None
        hops.publish_with(self.found.hops + 1)
        try:
            with transaction.atomic():
                self.registered.function(self.found.message)
        except Exception as problem:  # noqa: BLE001 - whatever a handler raises, its message is tried again
            self.failed(position, problem)
        else:
            self.handled(position)

    def _refused(self, problem: Exception) -> None:
        """Note a failure of the commit, such as a deferred constraint that is violated, in a transaction of its own."""
        found = self.found
        if found is None:
            raise problem
        with hops.handling(), transaction.atomic():
            position = HandlerPosition.objects.select_for_update().filter(pk=self.position_id).first()
            if position is not None and position.seq < found.message.seq:
                # What the transaction passed over is passed over again.
                if self.next_of(position) and self.found is not None and self.found.message.seq == found.message.seq:
                    self.failed(position, problem)
                return
        # The message is handled. What runs after the commit has failed, as nobody can undo.
        _log_failure(self.registered, found.message, problem)


class _Leased(_Attempt):
    """An asynchronous function. It runs under a lease and without a transaction, at least once for each message."""

    def __init__(self, registered: Registered, position_id: int, holder: str) -> None:
        super().__init__(registered, position_id)
        self.holder = holder[:96]

    def handle(self) -> Result:
        if not self._take():
            return self.result
        assert self.found is not None
        problem: Exception | None = None
        with repeated(LEASE / 3, self._renew), hops.handling():
            hops.publish_with(self.found.hops + 1)
            try:
                async_to_sync(self.registered.function)(self.found.message)
            except Exception as raised:  # noqa: BLE001 - whatever a handler raises, its message is tried again
                problem = raised
        self._end(problem)
        return self.result

    def _take(self) -> bool:
        with transaction.atomic():
            position = positions.locked(self.position_id)
            now = timezone.now()
            if position is None or (position.lease_until is not None and position.lease_until > now):
                self.result = Result(Outcome.BUSY)
                return False
            if not self.next_of(position):
                return False
            position.holder, position.lease_until = self.holder, now + timedelta(seconds=LEASE)
            _save(position)
            return True

    def _renew(self) -> bool:
        until = timezone.now() + timedelta(seconds=LEASE)
        return bool(HandlerPosition.objects.filter(pk=self.position_id, holder=self.holder).update(lease_until=until))

    def _end(self, problem: Exception | None) -> None:
        assert self.found is not None
        message = self.found.message
        with hops.handling(), transaction.atomic():
            rows = HandlerPosition.objects.select_for_update().filter(pk=self.position_id, holder=self.holder)
            position = rows.first()
            if position is None or position.seq != message.seq - 1:
                self.result = Result(Outcome.BUSY)
                logger.warning(
                    "%s lost %s #%d while it ran; another process handles it",
                    self.registered.name,
                    message.address,
                    message.seq,
                    extra={"event": "handler_lost", "handler": self.registered.name, "seq": message.seq},
                )
                return
            position.holder, position.lease_until = "", None
            if problem is None:
                self.handled(position)
            else:
                self.failed(position, problem)


def _next(position: HandlerPosition, registered: Registered) -> _Found | None:
    """Return the next message of a locked position. Without one, the position moves over what the handler does not get."""
    row = Channel.objects.filter(pk=position.channel_id).values_list("head", "epoch", "room__name", "name").first()
    if row is None:
        return None
    head, position.epoch, room, name = row
    address = Address(room, name)
    if not registered.covers(address):
        # The pattern was another one when the position was made.
        _move(position, head)
        return None
    if position.seq > head:
        # The log is of an older state of the database than the position. What was handled cannot be known.
        oldest = first_seq(position.channel_id)
        _log_hole(registered, address, "the log went back", 0)
        position.seq = (head + 1 if oldest is None else oldest) - 1
    kept = Message.objects.filter(channel_id=position.channel_id, seq__gt=position.seq).order_by("seq")
    columns = ("seq", "type", "uid", "hops", "frame")
    found = kept.values_list(*columns).first()
    if (gone := (head if found is None else found[0] - 1) - position.seq) > 0:
        _log_hole(registered, address, f"{gone} messages were removed before it came to them", gone)
        position.lost += gone
        _move(position, position.seq + gone)
    if found is not None and not _gets(registered, found[1], found[4]):
        last = min(position.seq + PASSED, head)
        wanted = kept.filter(seq__lte=last).exclude(frame__endswith=ERASED_END.decode())
        if registered.types is not None:
            wanted = wanted.filter(type__in=registered.types)
        found = wanted.values_list(*columns).first()
        _move(position, last if found is None else found[0] - 1)
    if found is None:
        return None
    seq, _, uid, had, frame = found
    message = HandledMessage(legible(frame.encode(), seq), address, seq, position.attempt + 1)
    return _Found(message, uid, had)


def _gets(registered: Registered, kind: str, frame: str) -> bool:
    """Return whether a handler gets a message. One whose content was erased has nothing to handle."""
    return (registered.types is None or kind in registered.types) and not is_erased(frame.encode())


def _move(position: HandlerPosition, seq: int) -> None:
    """Move a position, for whose next message nothing has failed yet."""
    position.seq = seq
    position.attempt = 0
    position.retry_at = None


def _save(position: HandlerPosition) -> None:
    position.moved_at = timezone.now()
    position.save(
        update_fields=[
            "seq", "epoch", "holder", "lease_until", "attempt", "retry_at", "state", "error", "handled", "failed", "lost",
            "moved_at",
        ]
    )  # fmt: skip


def _put_aside(
    registered: Registered, position: HandlerPosition, found: _Found, problem: Exception, reference: str
) -> bool:
    """Tell ``handlers:dead`` of a message that the handler gave up. Return False if the channel does not take it.

    A message of ``handlers:dead`` itself has no such letter, which could fail in the same way.
    """
    message = found.message
    if message.address == str(DEAD):
        return True
    letter = {
        "handler": registered.name,
        "room": message.room,
        "channel": message.channel,
        "seq": message.seq,
        "id": found.uid,
        "attempts": position.attempt,
        "error": type(problem).__name__,
        "reference": reference,
    }
    try:
        with transaction.atomic():
            hops.publish_with(min(found.hops + 1, hops.MOST))
            # Whoever may read it learns of channels, so nobody may without a grant.
            Room.objects.get_or_create(
                name=DEAD.room,
                defaults={"private": True, "created_by": SERVER, "description": "Messages that handlers gave up."},
            )
            publish(DEAD, letter, type="dead")
    except (BusError, IntegrityError) as refused:
        logger.error(
            "%s is stopped, because %s did not take a message: %s",
            registered.name,
            DEAD,
            getattr(refused, "message", type(refused).__name__),
            extra={"event": "dead_letter_lost", "handler": registered.name, "seq": message.seq},
        )
        return False
    return True


def _log_failure(registered: Registered, message: HandledMessage, problem: Exception) -> str:
    """Log where a handler failed, without its data. Return the reference of the entry."""
    reference = new_reference()
    logger.error(
        "%s failed with %s #%d, attempt %d, reference %s: %s",
        registered.name,
        message.address,
        message.seq,
        message.attempt,
        reference,
        where(problem),
        extra={
            "event": "handler_failed",
            "handler": registered.name,
            "channel": message.address,
            "seq": message.seq,
            "attempt": message.attempt,
            "reference": reference,
        },
    )
    return reference


def _log_hole(registered: Registered, address: Address, what: str, lost: int) -> None:
    logger.warning(
        "%s has a hole in %s: %s",
        registered.name,
        address,
        what,
        extra={"event": "handler_hole", "handler": registered.name, "channel": str(address), "lost": lost},
    )
