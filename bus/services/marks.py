"""The rows of marks: how far each holder has dealt with a log.

A holder is a principal, or an anonymous client by its id. :func:`write` moves the marks of many holders in one transaction.
The thread that writes the log calls it. ``marking`` has the verbs with their rights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from django.db import transaction
from django.db.models import Count, F, Min, Window
from django.db.models.functions import Now, RowNumber
from django.utils import timezone

from ..log import Position
from ..log.question_batch import OPEN
from ..models import Client, Mark, Question
from ..monitoring import metrics
from ..protocol.errors import BusError, ErrorCode
from .held import ChannelHeld, refer_to

#: Marks that one holder may have, and those of them that the answer to a registration names.
MOST, TOLD = 1_000, 200

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
    TAKEN_OVER or CLIENT_NOT_FOUND, or a :class:`ChannelHeld` where another transaction holds the channel's row.
    """
    with transaction.atomic():
        return _write(moves)


def _write(moves: Sequence[Move]) -> list[Marked | Exception]:
    # Clients are locked before channels, as everywhere.
    clients = _clients(moves)
    logs, held = refer_to({move.channel_id for move in moves})
    answers: dict[int, Marked | Exception] = {}
    wanted: dict[_Key, list[int]] = defaultdict(list)
    for i, move in enumerate(moves):
        problem = ChannelHeld() if move.channel_id in held else _fault(move, logs.get(move.channel_id), clients)
        if problem is not None:
            answers[i] = problem
        else:
            wanted[(move.holder, move.channel_id)].append(i)
    kept = _locked(wanted)
    refused = _too_many(wanted.keys() - kept.keys())
    for key in [key for key in wanted if key[0] in refused and key not in kept]:
        answers.update(dict.fromkeys(wanted.pop(key), _limit()))
    asked = _first_asked(key[1] for key in wanted.keys() - kept.keys() if moves[wanted[key][0]].begin)
    places = {
        key: _moved(kept.get(key), [moves[i] for i in indexes], logs[key[1]], asked) for key, indexes in wanted.items()
    }
    new = {key: place for key, place in places.items() if key not in kept}
    if new:
        Mark.objects.bulk_create(_rows(new), ignore_conflicts=True)
        # Another process may have made the same mark meanwhile. Then that one is moved.
        kept |= _locked(new)
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


def _clients(moves: Sequence[Move]) -> dict[str, Client]:
    """Return the rows of the anonymous clients among the holders, locked, by the name of the holder."""
    names = {move.holder.removeprefix(_CLIENT) for move in moves if move.holder.startswith(_CLIENT)}
    if not names:
        return {}
    rows = Client.objects.filter(client_id__in=names, principal="").only("client_id", "connection_id", "marked")
    return {f"{_CLIENT}{row.client_id}": row for row in rows.order_by("id").select_for_update(no_key=True)}


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


def _locked(keys: Iterable[_Key]) -> dict[_Key, Place]:
    """Return the marks that exist, locked in an order that all processes share."""
    keys = set(keys)
    if not keys:
        return {}
    rows = Mark.objects.filter(
        holder__in={holder for holder, _ in keys}, channel_id__in={channel_id for _, channel_id in keys}
    )
    found = rows.order_by("holder", "channel_id").select_for_update()
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
