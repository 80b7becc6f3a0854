"""Streams: their states and contents, stop, adoption, and the end of streams whose owners are gone."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from django.db import OperationalError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from ..auth.permissions import MANAGE, PUBLISH, Actor, can, require
from ..conf.settings import config
from ..directory.channels import ChannelRef, ref_of
from ..directory.streams import find_stream, stream_not_found
from ..log import CommitInDoubt, Contended, Ending, Entry, append_batch, snapshots, streamed
from ..log.effects import ABORTED, OPEN, STOPPED, Snapshot, StreamState
from ..log.streamed_row import Row, lock_stream
from ..models import Channel, Client, Message, Stream, StreamPart, digest
from ..protocol import growing
from ..protocol.errors import BusError, ErrorCode
from ..protocol.names import SERVER, Address
from ..publishing.announce import announce
from ..publishing.commit import outcome_told
from ..publishing.growth import announce_adopted, announce_stop
from ..publishing.plan import sender_of
from . import audit, nodes
from .patience import is_locked, own_patience

#: Seconds that a change of a stream waits for a lock. It may run in the thread that writes the log.
PATIENCE = 0.5
#: Streams that one sweep ends.
SWEPT = 50
#: Rows that one transaction changes. Between two transactions, publishers can write.
CHANGED = 500
#: How long a stream stays open at most, in times of the setting ``stream_idle``.
LONGEST = 24


class Stopped(NamedTuple):
    """The result of a stop. ``ended`` is the entry of the end, if the server ended the stream at once."""

    state: StreamState
    ended: Entry | None


class Adopted(NamedTuple):
    """The result of an adoption: the stream in its new attempt, and the token that its appends need."""

    state: StreamState
    token: str


def state_of(of: str) -> StreamState | None:
    """Return the stream whose opening has the uid ``of``; None without such a stream."""
    return streamed.state_of(of)


def open_in(channel_ids: Collection[int]) -> list[StreamState]:
    """Return the open streams of some channels, in the order of their openings."""
    return streamed.open_in(channel_ids)


def moved_since(moment: datetime) -> list[StreamState]:
    """Return the streams that moved since ``moment``, as :func:`bus.log.streamed.streams_moved_since` says."""
    return streamed.streams_moved_since(moment)


def snapshot(stream_id: int, known: Snapshot | None = None) -> Snapshot | None:
    """Return a stream and its whole content, as :func:`bus.log.snapshots.snapshot` says."""
    return snapshots.snapshot(stream_id, known)


def end_of(of: str) -> bytes | None:
    """Return the frame that ended a stream; None for a stream that is open or gone. The caller has checked the rights."""
    state = streamed.state_of(of)
    if state is None or state.end_seq is None:
        return None
    rows = Message.objects.filter(channel_id=state.channel_id, seq=state.end_seq)
    frame = rows.values_list("frame", flat=True).first()
    return frame.encode() if frame is not None else None


def _refs(channel_ids: Iterable[int]) -> dict[int, ChannelRef]:
    return {
        channel.pk: ref_of(channel) for channel in Channel.objects.select_related("room").filter(pk__in=channel_ids)
    }


@contextmanager
def _locked(of: str, channel_id: int) -> Iterator[Row]:
    """Lock a stream's row in a transaction. Raises ``BusError`` STREAM_NOT_FOUND, and UNAVAILABLE for a locked one."""
    within = connection.in_atomic_block
    try:
        with transaction.atomic():
            if within:
                # A caller's transaction keeps the locks. An end there needs the channel's, which the log takes before streams.
                list(Channel.objects.select_for_update(no_key=True).filter(pk=channel_id).values_list("pk"))
            row = lock_stream(of, PATIENCE)
            if row is None:
                raise stream_not_found(of)
            yield row
    except OperationalError as problem:
        if not is_locked(problem):
            raise
        raise _held() from problem


def _held() -> BusError:
    return BusError(ErrorCode.UNAVAILABLE, "Another transaction locks this stream. Try again.", retry_after=1.0)


# --- stop ---------------------------------------------------------------------------------------------------------------


@own_patience(PATIENCE)
def request_stop(actor: Actor, of: str, *, door: str = "socket") -> Stopped:
    """Ask the owner of a stream to stop. Without an owner, end the stream at once.

    Raises ``BusError`` STREAM_NOT_FOUND, FORBIDDEN without the right to publish in the stream's channel, or UNAVAILABLE. A
    stream that has ended stays as it is. ``door`` is for the audit log, which has the stops of admins.
    """
    ref = find_stream(actor, of).ref
    require(actor, PUBLISH, ref.address, private=ref.private)
    with _locked(of, ref.id) as row:
        if row.state != OPEN:
            return Stopped(row.told(), None)
        if not row.stopping:
            Stream.objects.filter(pk=row.id).update(stop_requested_at=timezone.now())
            row.stopping = True
            if actor.manages and actor.principal != row.principal:
                audit.record(actor, door, "stop_stream", str(ref.address), of=of)
        state = row.told()
        announce_stop(state, ref)
    if _is_there(state):
        return Stopped(state, None)
    try:
        with outcome_told():
            ended = _write([_end(state, ref, STOPPED)])
    except Contended as problem:
        raise _held() from problem
    return Stopped(_after(ended[0]), ended[0]) if ended else Stopped(state_of(of) or state, None)


def _is_there(state: StreamState) -> bool:
    """Return whether a stream's owner is connected. An owner without a connection counts for some time after its append."""
    if state.rest:
        since = timezone.now() - timedelta(seconds=config().stream_rest_grace)
        return Stream.objects.filter(pk=state.id, touched_at__gte=since).exists()
    connected = Client.objects.filter(client_id=state.client_id, principal=state.principal)
    return connected.filter(node_id__in=nodes.alive_ids()).exists()


def _end(state: StreamState, ref: ChannelRef, how: str) -> Entry:
    """Return the entry with which the server ends a stream for its owner."""
    sender = state.client_id or SERVER
    head = growing.stream_end_head(state.uid, None, ref.address, sender)
    uid = growing.end_uid(state.uid, None)
    effect = Ending(state.uid, how, state.attempt, state.have)
    return Entry(state.channel_id, head, b"", uid, growing.STREAM_END, sender, context=ref, effect=effect)


def _write(entries: Sequence[Entry], *, patience: float | None = PATIENCE, pass_over: bool = False) -> list[Entry]:
    """Write ends, and announce them. Return those that were written: not those of streams that moved meanwhile.

    ``pass_over`` leaves out locked rows instead of waiting for them. Raises :class:`Contended` and :class:`CommitInDoubt`.
    """
    passed = append_batch(entries, window=config().idempotency_window, patience=patience, pass_over=pass_over)
    written = [entry for entry in entries if entry.error is None and entry not in passed]
    transaction.on_commit(partial(announce, written))
    return written


def _after(entry: Entry) -> StreamState:
    assert entry.effect is not None
    assert entry.effect.stream is not None
    return entry.effect.stream


# --- adoption -----------------------------------------------------------------------------------------------------------


@own_patience(PATIENCE)
def adopt(actor: Actor, of: str, *, keep: bool = True, address: Address | None = None, door: str = "socket") -> Adopted:
    """Make ``actor`` the owner of an open stream. ``keep=False`` removes the content so far.

    The same principal, an anonymous owner under its own client id, and whoever manages the channel may do so. The appends
    of the old owner are refused from then on. A stream that is not in the channel ``address`` is not found. ``door`` says
    where the actor comes from.

    Raises ``BusError`` STREAM_NOT_FOUND, STREAM_ENDED, FORBIDDEN, UNAVAILABLE, or VALIDATION_ERROR for an actor whose name
    is no client id.
    """
    ref = find_stream(actor, of).ref
    if address is not None and address != ref.address:
        raise stream_not_found(of)
    sender = sender_of(actor)
    token = secrets.token_urlsafe(24)
    now = timezone.now()
    with _locked(of, ref.id) as row:
        own = actor.principal == row.principal and (bool(actor.principal) or row.client_id == sender)
        if not own and not can(actor, MANAGE, ref.address, private=ref.private):
            raise BusError(ErrorCode.FORBIDDEN, "You may not adopt this stream.", [{"of": of, "action": MANAGE}])
        if row.state != OPEN:
            raise BusError(ErrorCode.STREAM_ENDED, details=[{"of": of, "have": row.have, "state": row.state}])
        if not keep:
            StreamPart.objects.filter(stream_id=row.id).delete()
            row.have = row.size = row.loose = row.merged = 0
        row.attempt += 1
        row.client_id, row.principal, row.rest = sender, actor.principal, door != "socket"
        Stream.objects.filter(pk=row.id).update(
            have=row.have,
            bytes=row.size,
            loose=row.loose,
            merged=row.merged,
            attempt=row.attempt,
            token_digest=digest(token),
            client_id=row.client_id,
            principal=row.principal,
            rest=row.rest,
            gone_at=None,
            touched_at=now,
        )
        state = row.told()
        if not own:
            audit.record(actor, door, "adopt_stream", str(ref.address), of=of, keep=keep)
        announce_adopted(state, ref)
    return Adopted(state, token)


def end_in(channel_ids: Collection[int]) -> set[int]:
    """End the open streams of inboxes that get another owner. Call it in the transaction of the claims; it waits for no lock.

    The ends are announced with the commit. Returns the inboxes with a stream that could not be ended now.
    """
    states = streamed.open_in(channel_ids)
    if not states:
        return set()
    refs = _refs({state.channel_id for state in states})
    ends = [_end(state, refs[state.channel_id], ABORTED) for state in states]
    written = {entry.uid for entry in _write(ends, patience=None, pass_over=True)}
    return {entry.channel_id for entry in ends if entry.uid not in written}


def end_now(state: StreamState) -> None:
    """End an open stream for its owner, because its message is erased. Raises ``BusError`` UNAVAILABLE for a locked one."""
    refs = _refs([state.channel_id])
    try:
        with outcome_told():
            written = _write([_end(state, refs[state.channel_id], ABORTED)])
    except Contended as problem:
        raise _held() from problem
    if not written:
        raise _held()


# --- streams without an owner ---------------------------------------------------------------------------------------------


def end_overdue() -> list[Entry]:
    """End open streams whose owners are gone, idle for too long, or do not follow a stop. Return the entries of the ends.

    The settings ``stream_grace``, ``stream_rest_grace`` and ``stream_idle`` say when. The ends are announced. Every process
    may call this at the same time, and a stream ends once. Streams whose rows are locked follow with a later sweep.
    """
    if not Stream.objects.filter(state=OPEN).exists():
        return []
    now = timezone.now()
    _note_the_gone(now)
    with transaction.atomic():
        # Locked rows are those that another process ends at this moment. So each process takes other ones.
        free = Stream.objects.select_for_update(no_key=True, skip_locked=True).order_by("id")
        overdue = streamed.states(free.filter(_overdue(now), state=OPEN)[:SWEPT])
    refs = _refs({state.channel_id for state in overdue})
    ends = [
        _end(state, refs[state.channel_id], STOPPED if state.stopping else ABORTED)
        for state in overdue
        if state.channel_id in refs
    ]
    try:
        return _write(ends, pass_over=True) if ends else []
    except (Contended, CommitInDoubt):
        # The next sweep looks again. Members find an end that was written after all in the log.
        return []


def _overdue(now: datetime) -> Q:
    settings = config()
    grace = now - timedelta(seconds=settings.stream_grace)
    found = Q(stop_requested_at__lt=grace)
    up_since = nodes.up_since()
    if up_since is None or up_since < grace:
        # Who appended since is back, even if no sweep has seen it connected: a process may be killed before its first one.
        found |= Q(rest=False, gone_at__lt=grace, touched_at__lt=grace)
        if settings.stream_idle:
            found |= Q(rest=False, touched_at__lt=now - timedelta(seconds=settings.stream_idle))
    rest_grace = now - timedelta(seconds=settings.stream_rest_grace)
    if up_since is None or up_since < rest_grace:
        found |= Q(rest=True, touched_at__lt=rest_grace)
    if settings.stream_idle:
        # An open stream keeps its channel's messages from the retention, so nobody may keep one open for ever.
        found |= Q(opened_at__lt=now - LONGEST * timedelta(seconds=settings.stream_idle))
    return found


def _note_the_gone(now: datetime) -> None:
    """Note since when the owners of open streams have no connection, and forget it for those that are back."""
    rows = list(
        Stream.objects.filter(state=OPEN, rest=False).values_list(
            "id", "client_id", "principal", "gone_at", "touched_at"
        )
    )
    if not rows:
        return
    names = {name for _, name, *_ in rows}
    alive = nodes.alive_ids()
    there: set[tuple[str, str]] = set()
    left: dict[str, datetime] = {}
    clients = Client.objects.filter(client_id__in=names)
    for name, principal, node_id, at in clients.values_list("client_id", "principal", "node_id", "disconnected_at"):
        if node_id in alive:
            there.add((name, principal))
        elif at is not None:
            left[name] = at
    changed: dict[int, datetime | None] = {}
    for key, name, principal, gone_at, touched_at in rows:
        here = (name, principal) in there
        if here and gone_at is not None:
            changed[key] = None
        elif not here and gone_at is None:
            changed[key] = min(now, max(left.get(name, now), touched_at))
    keys = sorted(changed)
    for start in range(0, len(keys), CHANGED):
        _change({key: changed[key] for key in keys[start : start + CHANGED]})


def _change(gone: dict[int, datetime | None]) -> None:
    """Note since when the owners of streams are gone, where the rows are free. The others follow with the next sweep."""
    with transaction.atomic():
        free = Stream.objects.filter(pk__in=gone).order_by("id").select_for_update(no_key=True, skip_locked=True)
        rows = [Stream(pk=key, gone_at=gone[key]) for key in free.values_list("pk", flat=True)]
        Stream.objects.bulk_update(rows, ["gone_at"])
