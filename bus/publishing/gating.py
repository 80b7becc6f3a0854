"""The gates of a message, between its entry and its commit. Every door runs them here, in the transaction that keeps it.

``in_transaction`` makes the transaction, ``pass_gates`` runs the gates and ``settle`` ends their work. A gate may run twice:
another transaction may have been first. What the first run wrote is rolled back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import msgspec
from django.db import Error as DatabaseError
from django.db import IntegrityError, InterfaceError, InternalError, connection, transaction

from ..auth.permissions import Actor
from ..conf.settings import config
from ..db import begin, faults
from ..gates import Gate, GateMessage, Refuse, Swallow, gates_of
from ..log import Entry, id_taken, remember_swallowed, used_keys
from ..models import Channel
from ..monitoring.failures import reported
from ..monitoring.tracebacks import without_text
from ..protocol import frames
from ..protocol.errors import BusError, ErrorCode
from ..protocol.inbound import Inbound, size_of
from ..protocol.values import wrong_with
from . import commit
from .entry import entries

logger = logging.getLogger("arqonbus.gates")

Result = TypeVar("Result")

#: A run of gates that takes less than this many seconds may hold SQLite's only lock for writing.
FAST = 0.1
#: After so many runs, a slower gate may hold it too: one that takes less than ``SLOW`` seconds.
PATIENT, SLOW = 3, 0.5
#: How often one message meets its gates while other transactions are first.
RUNS = 5
#: How many gates may be inside one another, where gates publish under the name of a client.
DEPTH = 8

_TOO_LONG = "A gate of this channel takes too long; nothing was published."
_depth: ContextVar[int] = ContextVar("gate_depth", default=0)


class Repeated(Exception):
    """Another process published the message with the same id meanwhile, so that the gates should not have run."""


class Candidate:
    """A message that stands before the gates of its channel.

    ``entry`` and ``inbound`` are the message, ``actor`` is who publishes, and ``connected`` whether that is a connection.
    ``index`` is the message's place in a batch; None for a single one.
    """

    __slots__ = ("_effect", "_tail", "actor", "connected", "entry", "inbound", "index", "met")

    def __init__(
        self, entry: Entry, inbound: Inbound, actor: Actor, *, connected: bool, index: int | None = None
    ) -> None:
        self.entry = entry
        self.inbound = inbound
        self.actor = actor
        self.connected = connected
        self.index = index
        #: Whether the gates ran.
        self.met = False
        self._tail, self._effect = entry.tail, entry.effect

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates before which the message stands. The parts and the end of a streamed message meet none."""
        return () if self.inbound.append is not None else self.kind

    @property
    def kind(self) -> tuple[Gate, ...]:
        """The gates of the channel."""
        return gates_of(self.entry.context.address)

    def begin(self) -> None:
        """Forget an earlier run, which was rolled back."""
        self.met = False
        self.entry.swallowed = False
        self.entry.tail, self.entry.effect = self._tail, self._effect

    def located(self, problem: BusError) -> BusError:
        """The error with the place of the message in its batch."""
        if self.index is None:
            return problem
        details = [{"index": self.index, **fault} for fault in problem.details] or [{"index": self.index}]
        return BusError(problem.code, problem.message, details, problem.retry_after)


def concerns(inbound: Inbound, actor: Actor | None) -> bool:
    """Whether a message meets gates at all. The server's own messages, and those of the project's own code, meet none."""
    return actor is not None and not actor.system and inbound.append is None


def passes_by(entry: Entry) -> bool:
    """Whether a message goes to the members of an ephemeral channel, and into no log."""
    return bool(entry.context.ephemeral) and entry.effect is None


def takes_too_long() -> BusError:
    """The error for the publisher of a message whose gates exceed their time."""
    return BusError(ErrorCode.UNAVAILABLE, _TOO_LONG, retry_after=1.0)


def in_transaction(
    work: Callable[[], Result],
    candidates: Sequence[Candidate],
    *,
    deadline: float,
    decided: Callable[[], None] | None = None,
    undone: Callable[[], None] | None = None,
) -> Result:
    """Run ``work``, which passes gates and appends, in one transaction, or in a savepoint of the caller's.

    ``candidates`` are the messages, as ``work`` leaves them. ``deadline`` is in monotonic seconds. ``decided`` is called
    before the commit and may raise. ``undone`` is called after a rollback, before the next run.

    Raises ``BusError`` UNAVAILABLE after the deadline and OUTCOME_UNKNOWN, what ``work`` raises, and errors of the database.
    """
    immediate, run = False, 1
    while True:
        began = time.monotonic()
        try:
            with _transaction(immediate, deadline):
                result = work()
                if time.monotonic() > deadline:
                    raise takes_too_long()
                if decided is not None:
                    decided()
            return result
        except BusError as problem:
            raise _told_of(candidates, problem) from problem.__cause__
        except (Repeated, DatabaseError) as problem:
            now = time.monotonic()
            if not _again(problem) or run == RUNS:
                raise _after_all(candidates, problem) from problem
            if now > deadline:
                raise takes_too_long() from problem
            # Only SQLite knows such a lock. While a slow gate holds it, nobody else writes, so it tries its luck first.
            immediate = now - began < (FAST if run < PATIENT else SLOW)
        run += 1
        if undone is not None:
            undone()


def _again(problem: BaseException) -> bool:
    """Whether a second run may succeed: another transaction was first, or used an id of the messages."""
    return isinstance(problem, (Repeated, IntegrityError)) or faults.outrun(problem)


def _after_all(candidates: Sequence[Candidate], problem: Exception) -> Exception:
    """What is raised for a transaction that failed for good. Some failures can only be the gate's."""
    if isinstance(problem, Repeated):
        return BusError(ErrorCode.UNAVAILABLE, retry_after=1.0)
    if faults.too_slow(problem):
        return takes_too_long()
    met = [candidate for candidate in candidates if candidate.met]
    # Its rows break a constraint that is checked at the commit, or it hid an error, after which nothing can be written.
    if met and isinstance(problem, (IntegrityError, InternalError, transaction.TransactionManagementError)):
        return failed(met[0].gates, problem)
    return problem


@contextmanager
def _transaction(immediate: bool, deadline: float) -> Iterator[None]:
    outermost = not connection.in_atomic_block
    with nullcontext() if immediate or not outermost else begin.deferred(), commit.one_transaction():
        if outermost:
            # A statement that waits, for a lock say, must not outlast the gate's time.
            begin.limit_statements(max(deadline - time.monotonic(), 0.05))
        yield


def pass_gates(candidates: Sequence[Candidate]) -> None:
    """Run the gates of each message, in the caller's transaction. A message that was published before meets none.

    An entry may change, or be marked as swallowed. Raises ``BusError`` REFUSED, INTERNAL_ERROR, or VALIDATION_ERROR for a
    changed message that cannot be published, and errors of the database.
    """
    used = used_keys([c.entry.key for c in candidates if c.entry.key is not None], config().idempotency_window)
    # The messages of a batch may repeat one another.
    firsts: dict[str, Entry] = {}
    ran = False
    for candidate in candidates:
        candidate.begin()
        entry, gates = candidate.entry, candidate.gates
        if not gates or entry.duplicate or entry.key in used:
            continue
        try:
            if entry.key is not None and (first := firsts.setdefault(entry.key, entry)) is not entry:
                _repeat(entry, first)
                continue
            candidate.met = ran = True
            _run(candidate, gates)
        except BusError as problem:
            raise candidate.located(problem) from None
    if ran:
        begin.begin_writing()


def _repeat(entry: Entry, first: Entry) -> None:
    """Treat a message as the repeat of an earlier one in its batch. The log finds a repeat of a message that it keeps."""
    if first.swallowed:
        if entry.channel_id != first.channel_id:
            raise id_taken()
        entry.duplicate = entry.swallowed = True


def settle(candidates: Sequence[Candidate]) -> None:
    """End the work of the gates after the appends of their messages, in the same transaction.

    Raises ``BusError`` for a message that its log refused, so that the gate's rows are rolled back, and :class:`Repeated`.
    """
    for candidate in candidates:
        if candidate.met and candidate.entry.error is not None:
            raise candidate.located(candidate.entry.error)
        if candidate.met and candidate.entry.duplicate:
            raise Repeated
    swallowed = [c.entry for c in candidates if c.met and c.entry.swallowed and not passes_by(c.entry)]
    if swallowed and not remember_swallowed(swallowed, config().idempotency_window):
        raise Repeated


def _told_of(candidates: Sequence[Candidate], problem: BusError) -> BusError:
    """The error for the publisher, after the rollback. It blames a gate that deleted the channel of its own message."""
    if problem.code == ErrorCode.CHANNEL_NOT_FOUND:
        lost = [c for c in candidates if c.met and c.entry.error is not None]
        if lost and Channel.objects.filter(id=lost[0].entry.channel_id).exists():
            return failed(lost[0].gates, RuntimeError("The gate deleted the channel of its message."))
    return problem


def failed(gates: Sequence[Gate], problem: BaseException) -> BusError:
    """Log what went wrong in a gate, once, and return the error for the publisher, with the reference of the log line."""
    return reported(
        logger,
        f"the gate {', '.join(gate.name for gate in gates)} failed; the message is not kept",
        problem=without_text(problem),
        event="gate_failed",
        pattern=gates[0].pattern if gates else None,
    )


def _run(candidate: Candidate, gates: Sequence[Gate]) -> None:
    entry, inbound = candidate.entry, candidate.inbound
    message = GateMessage(inbound, entry.context.address, entry.uid, entry.sender)
    before = message.contents()
    changed = inbound
    for gate in gates:
        _call(gate, message, candidate.actor)
        if message.swallowed:
            entry.swallowed = True
            return
        try:
            changed = _changed(message, before, inbound)
        except (ValueError, TypeError, OverflowError, RecursionError) as problem:
            raise failed([gate], problem) from None
    if changed is not inbound:
        (made,) = entries(
            changed,
            (entry.context,),
            entry.sender,
            lambda: entry.uid,
            actor=candidate.actor,
            connected=candidate.connected,
        )
        entry.tail, entry.effect = made.tail, made.effect


def _call(gate: Gate, message: GateMessage, actor: Actor) -> None:
    depth = _depth.get()
    token = _depth.set(depth + 1)
    try:
        if depth >= DEPTH:
            raise RecursionError("Gates publish to one another, or to their own channel, in a circle.")
        hooks = len(connection.run_on_commit)
        gate.function(message, actor)
        _calm(hooks)
    except Refuse as refusal:
        raise BusError(ErrorCode.REFUSED, refusal.text, [{"code": refusal.code}]) from None
    except Swallow:
        message.swallow()
    except (Exception, SystemExit) as problem:
        if isinstance(problem, DatabaseError) and _of_the_database(problem):
            raise
        if isinstance(problem, BusError) and problem.number >= 500:
            # Something that the gate published could not be published. That was logged where it happened.
            raise
        raise failed([gate], problem) from None
    finally:
        _depth.reset(token)


def _of_the_database(problem: DatabaseError) -> bool:
    """Whether an error that a gate met is none of its own: the database is away, or another transaction was first."""
    return (
        faults.outrun(problem)
        or faults.too_slow(problem)
        or faults.of_no_use(problem)
        or isinstance(problem, InterfaceError)
        or connection.connection is None
        or bool(getattr(connection.connection, "closed", False))
    )


def _calm(before: int) -> None:
    """Let what a gate does after the commit fail without an effect on the message, which is kept by then."""
    hooks: list[Any] = connection.run_on_commit
    hooks[before:] = [(sids, function, True) for sids, function, _ in hooks[before:]]


def _changed(message: GateMessage, before: tuple[bytes | None, ...], inbound: Inbound) -> Inbound:
    """The message as gates left it; the same one if nothing changed. Raises ``ValueError`` for one that no frame may have."""
    after = message.contents()
    if after == before:
        return inbound
    payload, text, metadata = after
    if payload is None or not payload.startswith(b"{"):
        raise ValueError("The payload that a gate leaves is a dictionary.")
    if text is not None and not text.startswith(b'"'):
        raise ValueError("The text that a gate leaves is a string or None.")
    if metadata is not None and not metadata.startswith(b"{"):
        raise ValueError("The metadata that a gate leaves is a dictionary or None.")
    # Many clients only send a text, which stands in the payload too. Where it was changed at one place, the other follows.
    if before[0] == _of_text(before[1]):
        if text == before[1]:
            said = message.payload.get("message")
            text = frames.encode(said) if isinstance(said, str) else None
        elif payload == before[0]:
            payload = _of_text(text) or payload
    for part in (payload, text, metadata):
        # Inside its frame a part is one level deeper.
        if part is not None and wrong_with(part, config().frame_depth - 1) is not None:
            raise ValueError("The gate left a value that is nested too deeply, or that other programs cannot read.")
    # What no gate changed stays as its sender wrote it.
    made = msgspec.structs.replace(
        inbound,
        payload=inbound.payload if payload == before[0] else payload,
        message=inbound.message if text == before[1] else text,
        metadata=inbound.metadata if metadata == before[2] else metadata,
    )
    if size_of(made) > max(config().frame_bytes, size_of(inbound)):
        raise ValueError("The message that a gate left is larger than a frame may be.")
    return made


def _of_text(text: bytes | None) -> bytes | None:
    return None if text is None else b'{"message":%b}' % text
