"""The rows of marks: how far each holder has dealt with a log.

A holder is a principal, or an anonymous client by its id. :func:`write` moves the marks of many holders in one transaction.
The thread that writes the log calls it. ``marking`` has the verbs with their rights.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec
from django.db import OperationalError, transaction
from django.db.models import Count, F, Min, QuerySet, Window
from django.db.models.functions import Now, RowNumber
from django.utils import timezone

from ..log import Position
from ..log.question_batch import OPEN
from ..models import Client, Mark, Question
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from .held import ChannelHeld, refer_to
from .patience import is_locked, own_patience

#: Marks that one holder may have, and those of them that the answer to a registration names.
MOST, TOLD = 1_000, 200

#: Seconds that a group of moves waits for a row of another transaction, and that the insert of a part of its marks waits then.
PATIENCE, BRIEF = 0.25, 0.01

#: What the name of a holder without a principal begins with.
_CLIENT = "client:"

_Key = tuple[str, int]


def holder_of(principal: str, client_id: str) -> str:
    """Return the name of a holder: its principal, or its client id if it is anonymous."""
    return principal or f"{_CLIENT}{client_id}"


class Move(msgspec.Struct, frozen=True):
    """A holder has dealt with the messages of a log up to ``seq``.

    With ``begin`` the holder only begins. Unless it has a mark, it gets one at ``seq`` (None: the head), or before the oldest
    question to its inbox that is still open. ``floor`` is the seq up to which an inbox belongs to an earlier client: no mark
    begins before it.

    A mark goes back only with ``back``. ``epoch`` is the log that ``seq`` is of (None: the present one). ``connection_id`` is
    the connection of an anonymous client. A connection whose id went to another one moves no mark.
    """

    holder: str
    channel_id: int
    seq: int | None
    back: bool = False
    epoch: str | None = None
    connection_id: str = ""
    begin: bool = False
    floor: int = 0


class Marked(NamedTuple):
    """A mark after a move, and the position of its log."""

    seq: int
    epoch: str
    log: Position

    @property
    def unread(self) -> int:
        """The number of messages behind the mark. All of them, if the mark is of another log."""
        return self.log.head - self.seq if self.epoch == self.log.epoch else self.log.head


class Place(msgspec.Struct, frozen=True):
    """The place of a mark in a log."""

    seq: int
    epoch: str


def write(moves: Sequence[Move]) -> list[Marked | Exception]:
    """Carry out the moves in one transaction. All moves of one mark become one write.

    Returns for each the mark afterwards, or its error: ``BusError`` CHANNEL_NOT_FOUND, VALIDATION_ERROR, LIMIT_REACHED,
    TAKEN_OVER or CLIENT_NOT_FOUND, or a :class:`ChannelHeld` where another transaction holds the channel's row. Where it holds
    the row of the mark or of its client for longer than :data:`PATIENCE`, the error is UNAVAILABLE. The others are written.
    """
    with transaction.atomic(), own_patience(PATIENCE):
        try:
            with transaction.atomic():
                return _write(moves)
        except OperationalError as problem:
            if not is_locked(problem):
                raise
        with transaction.atomic():
            return _write(moves, waits=False)


def _write(moves: Sequence[Move], *, waits: bool = True) -> list[Marked | Exception]:
    """Carry out the moves. Unless it ``waits``, it leaves out the marks whose rows other transactions hold."""
    # Clients are locked before channels, as everywhere.
    clients, busy_clients = _clients(moves, waits)
    logs, held = refer_to({move.channel_id for move in moves})
    answers: dict[int, Marked | Exception] = {}
    wanted: dict[_Key, list[int]] = defaultdict(list)
    for i, move in enumerate(moves):
        problem: Exception | None = None
        if move.channel_id in held:
            problem = ChannelHeld()
        elif move.holder in busy_clients:
            problem = _held()
        else:
            problem = _fault(move, logs.get(move.channel_id), clients)
        if problem is not None:
            answers[i] = problem
        else:
            wanted[(move.holder, move.channel_id)].append(i)
    kept = _locked(wanted, waits)
    for key in () if waits else _existing(wanted.keys() - kept.keys()):
        answers.update(dict.fromkeys(wanted.pop(key), _held()))
    refused = _too_many(wanted.keys() - kept.keys())
    for key in [key for key in wanted if key[0] in refused and key not in kept]:
        answers.update(dict.fromkeys(wanted.pop(key), _limit()))
    asked = _first_asked(key[1] for key in wanted.keys() - kept.keys() if moves[wanted[key][0]].begin)
    places = {
        key: _moved(kept.get(key), [moves[i] for i in indexes], logs[key[1]], asked) for key, indexes in wanted.items()
    }
    new = {key: place for key, place in places.items() if key not in kept}
    if new:
        if waits:
            Mark.objects.bulk_create(_rows(new), ignore_conflicts=True)
        else:
            _make_the_free(new, time.monotonic() + PATIENCE)
        # Another process may have made the same mark meanwhile. Then that one is moved.
        kept |= _locked(new, waits)
        for key in new.keys() - kept.keys():
            del new[key], places[key]
            answers.update(dict.fromkeys(wanted.pop(key), _held()))
        places |= {key: _moved(kept[key], [moves[i] for i in wanted[key]], logs[key[1]], asked) for key in new}
        _note(clients, {holder for holder, _ in new})
    changed = {key: place for key, place in places.items() if kept[key] != place}
    if changed:
        Mark.objects.bulk_create(
            _rows(changed),
            update_conflicts=True,
            unique_fields=["holder", "channel"],
            update_fields=["seq", "epoch", "moved_at"],
        )
    for key, indexes in wanted.items():
        marked = Marked(places[key].seq, places[key].epoch, logs[key[1]])
        answers.update(dict.fromkeys(indexes, marked))
    return [answers[i] for i in range(len(moves))]


def _make_the_free(new: dict[_Key, Place], until: float) -> None:
    """Make the new marks that no other transaction is making. It halves them to find those, at most ``until`` a time."""
    if time.monotonic() > until:
        return
    try:
        with own_patience(BRIEF), transaction.atomic():
            Mark.objects.bulk_create(_rows(new), ignore_conflicts=True)
    except OperationalError as problem:
        if not is_locked(problem):
            raise
        rows = list(new.items())
        if len(rows) > 1:
            _make_the_free(dict(rows[: len(rows) // 2]), until)
            _make_the_free(dict(rows[len(rows) // 2 :]), until)


def _clients(moves: Sequence[Move], waits: bool) -> tuple[dict[str, Client], set[str]]:
    """Return the rows of the anonymous clients among the holders, locked, by the name of the holder.

    Unless it ``waits``, the set has the holders whose rows other transactions hold.
    """
    names = {move.holder.removeprefix(_CLIENT) for move in moves if move.holder.startswith(_CLIENT)}
    if not names:
        return {}, set()
    rows = Client.objects.filter(client_id__in=names, principal="")
    locking = rows.only("client_id", "connection_id", "marked").order_by("id")
    found = {f"{_CLIENT}{row.client_id}": row for row in locking.select_for_update(no_key=True, skip_locked=not waits)}
    if waits:
        return found, set()
    there = {f"{_CLIENT}{name}" for name in rows.values_list("client_id", flat=True)}
    return found, there - found.keys()


def _fault(move: Move, log: Position | None, clients: dict[str, Client]) -> BusError | None:
    if log is None:
        return BusError(ErrorCode.CHANNEL_NOT_FOUND)
    if move.holder.startswith(_CLIENT):
        row = clients.get(move.holder)
        if move.connection_id and (row is None or row.connection_id != move.connection_id):
            return BusError(ErrorCode.TAKEN_OVER)
        if row is None:
            name = move.holder.removeprefix(_CLIENT)
            return BusError(ErrorCode.CLIENT_NOT_FOUND, f"There is no anonymous client {name[:64]!r}.")
    if move.epoch is not None and move.epoch != log.epoch:
        return _wrong("epoch", "The log has another epoch: it was recreated.", log)
    if move.seq is not None and move.seq > log.head:
        return _wrong("seq", f"The newest message has the seq {log.head}.", log)
    return None


def _wrong(field: str, message: str, log: Position) -> BusError:
    details = [{"field": field, "message": message, "head": log.head, "epoch": log.epoch}]
    return BusError(ErrorCode.VALIDATION_ERROR, message, details)


def _limit() -> BusError:
    metrics.limits.labels("marks").inc()
    return BusError(
        ErrorCode.LIMIT_REACHED,
        f"You have {MOST} marks, which is the limit. Move one of them instead.",
        [{"limit": "marks", "value": MOST}],
    )


def _held() -> BusError:
    return BusError(ErrorCode.UNAVAILABLE, "Another transaction locks this mark. Try again.", retry_after=1.0)


def _rows_of(keys: Set[_Key]) -> QuerySet[Mark]:
    """The marks with these holders in these channels, in the order in which all processes lock them."""
    rows = Mark.objects.filter(
        holder__in={holder for holder, _ in keys}, channel_id__in={channel_id for _, channel_id in keys}
    )
    return rows.order_by("holder", "channel_id")


def _existing(keys: Set[_Key]) -> Set[_Key]:
    """Return those of the marks that exist."""
    return keys & set(_rows_of(keys).values_list("holder", "channel_id")) if keys else keys


def _locked(keys: Iterable[_Key], waits: bool) -> dict[_Key, Place]:
    """Return the marks that exist, locked. Unless it ``waits``, those are missing whose rows other transactions hold."""
    keys = set(keys)
    if not keys:
        return {}
    found = _rows_of(keys).select_for_update(skip_locked=not waits)
    places = {
        (holder, channel_id): Place(seq, epoch)
        for holder, channel_id, seq, epoch in found.values_list("holder", "channel_id", "seq", "epoch")
    }
    return {key: place for key, place in places.items() if key in keys}


def _too_many(new: Iterable[_Key]) -> set[str]:
    """Return the holders that may not have these new marks too."""
    more: dict[str, int] = defaultdict(int)
    for holder, _ in new:
        more[holder] += 1
    if not more:
        return set()
    rows = Mark.objects.filter(holder__in=more).order_by().values_list("holder").annotate(Count("id"))
    have = dict(rows)
    return {holder for holder, count in more.items() if have.get(holder, 0) + count > MOST}


def _first_asked(channel_ids: Iterable[int]) -> dict[int, int]:
    """Return the seq of the oldest question to each of these inboxes that still waits for its answer."""
    ids = set(channel_ids)
    if not ids:
        return {}
    waiting = Question.objects.filter(channel_id__in=ids, state=OPEN, deadline__gt=Now()).exclude(to="")
    return dict(waiting.order_by().values_list("channel_id").annotate(Min("seq")))


def _moved(kept: Place | None, moves: Iterable[Move], log: Position, asked: Mapping[int, int]) -> Place:
    """Return the mark after the moves. A mark of another epoch counts as absent, until its holder says where it is.

    ``asked`` has the oldest open question of the inboxes in which somebody begins.
    """
    place = kept
    for move in moves:
        if move.begin or move.seq is None:
            place = place or Place(_beginning(move, log, asked), log.epoch)
        elif place is None or move.back or place.epoch != log.epoch or place.seq < move.seq:
            place = Place(move.seq, log.epoch)
    assert place is not None
    return place


def _beginning(move: Move, log: Position, asked: Mapping[int, int]) -> int:
    # The client may have had no mark yet when it was asked. What it answers comes through its mark.
    first = asked.get(move.channel_id)
    now = log.head if move.seq is None else move.seq
    return now if first is None else min(now, max(first - 1, move.floor))


def _rows(places: dict[_Key, Place]) -> list[Mark]:
    now = timezone.now()
    return [
        Mark(holder=holder, channel_id=channel_id, seq=place.seq, epoch=place.epoch, moved_at=now)
        for (holder, channel_id), place in sorted(places.items(), key=lambda item: item[0])
    ]


def _note(clients: dict[str, Client], holders: set[str]) -> None:
    """Note at the rows of anonymous clients that they have marks."""
    rows = [row.pk for holder, row in clients.items() if holder in holders and not row.marked]
    if rows:
        Client.objects.filter(pk__in=rows).update(marked=True)


# --- what other parts read and remove -----------------------------------------------------------------------------------


def kept_by(holders: Iterable[str]) -> dict[str, dict[str, Place]]:
    """Return the marks of each holder by the address of the log, at most its :data:`TOLD` newest ones. Costs one query."""
    newest = Window(RowNumber(), partition_by=[F("holder")], order_by=[F("moved_at").desc(), F("id").desc()])
    rows = Mark.objects.filter(holder__in=list(holders)).annotate(place=newest).filter(place__lte=TOLD)
    found: dict[str, dict[str, Place]] = defaultdict(dict)
    for holder, room, channel, seq, epoch in rows.values_list(
        "holder", "channel__room__name", "channel__name", "seq", "epoch"
    ):
        found[holder][f"{room}:{channel}"] = Place(seq, epoch)
    return found


def of_channels(holder: str, channel_ids: Iterable[int]) -> dict[int, Place]:
    """Return the marks of a holder in these channels, by channel id. Costs one query."""
    rows = Mark.objects.filter(holder=holder, channel_id__in=list(channel_ids))
    return {channel_id: Place(seq, epoch) for channel_id, seq, epoch in rows.values_list("channel_id", "seq", "epoch")}


def forget(client_ids: Iterable[str]) -> None:
    """Remove the marks of anonymous clients, inside the caller's transaction."""
    Mark.objects.filter(holder__in=[f"{_CLIENT}{client_id}" for client_id in client_ids]).delete()


def hand_over(client_id: str, principal: str) -> None:
    """Give the marks of an anonymous client to the principal that it proved to be, inside the caller's transaction.

    Where the principal has a mark of its own, that one stays.
    """
    marks = Mark.objects.filter(holder=f"{_CLIENT}{client_id}")
    marks.exclude(channel__in=Mark.objects.filter(holder=principal).values("channel")).update(holder=principal)
    marks.delete()
