"""The log in the caller's thread and transaction: read and prune messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from django.db import transaction
from django.db.models import Min, OuterRef, Subquery
from django.utils import timezone

from ..models import Channel, Message, new_epoch
from ..protocol.amending import is_erased
from ..protocol.kept import legible
from ..realtime.frame import LoggedFrame

#: Messages to read before their average size is known.
SAMPLE = 50


class Position(NamedTuple):
    """The id of a log, the seq of its newest message, and its epoch."""

    id: int
    head: int
    epoch: str


def heads(channel_ids: Iterable[int]) -> dict[int, Position]:
    """Return the positions of those channels that exist, by their ids."""
    rows = Channel.objects.filter(id__in=list(channel_ids)).values_list("id", "head", "epoch")
    return {row[0]: Position(*row) for row in rows}


def went_back(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    """Return whether the log lacks a message that was seen in ``epoch``, and give it a new epoch in that case.

    ``seq`` is the message's number, and ``frame`` its bytes if they are still in memory. A log lacks messages after a
    restore, or after a failover to a database without the last commits. It then assigns their numbers a second time. With
    the new epoch, clients do not mistake new messages for messages that they know.
    """
    if not _lacks(channel_id, epoch, seq, frame):
        return False
    with transaction.atomic():
        Channel.objects.select_for_update(no_key=True).filter(id=channel_id).first()
        if not _lacks(channel_id, epoch, seq, frame):
            return False
        # The time changes too, so that the next check of the other processes finds the log.
        Channel.objects.filter(id=channel_id).update(epoch=new_epoch(), touched_at=timezone.now())
    return True


def _lacks(channel_id: int, epoch: str, seq: int, frame: bytes | None) -> bool:
    head = Channel.objects.filter(id=channel_id, epoch=epoch).values_list("head", flat=True).first()
    if head is None or head < seq:
        return head is not None
    kept = Message.objects.filter(channel_id=channel_id, seq=seq).values_list("frame", flat=True).first()
    # A pruned message proves nothing, and an erased one neither. A frame that was read from the log may have been repaired.
    if frame is None or kept is None or is_erased(kept.encode()):
        return False
    return legible(kept.encode(), seq) != legible(frame, seq)


def read_after(channel_id: int, after: int, limit: int, most_bytes: int | None = None) -> list[LoggedFrame]:
    """Return the first ``limit`` messages with ``seq > after``, oldest first, readable by every JSON parser.

    With ``most_bytes``, large messages make the list shorter. It then has at least one message and little more than that
    many bytes.
    """
    rows = Message.objects.filter(channel_id=channel_id).order_by("seq").values_list("seq", "frame")
    found: list[LoggedFrame] = []
    step = limit if most_bytes is None else min(limit, SAMPLE)
    while len(found) < limit:
        behind = found[-1][0] if found else after
        part = [LoggedFrame(seq, legible(frame.encode(), seq)) for seq, frame in rows.filter(seq__gt=behind)[:step]]
        found += part
        if most_bytes is None or len(part) < step:
            break
        size = sum(len(frame) for _, frame in found)
        # As many as should fit, by the average size so far.
        step = min(limit - len(found), (most_bytes - size) * len(found) // max(size, 1))
        if step <= 0:
            break
    return found


def first_seq(channel_id: int) -> int | None:
    """Return the oldest remaining seq; None for an empty log."""
    value: int | None = Message.objects.filter(channel_id=channel_id).aggregate(first=Min("seq"))["first"]
    return value


def first_seqs(channel_ids: Sequence[int]) -> dict[int, int | None]:
    """Return the oldest remaining seq of each log, None for an empty one. One query, with an index look-up for each log."""
    oldest = Message.objects.filter(channel_id=OuterRef("pk")).order_by("seq").values("seq")[:1]
    return dict(Channel.objects.filter(id__in=channel_ids).values_list("id", Subquery(oldest)))


def seq_before(channel_id: int, moment: datetime) -> int:
    """Return the last remaining ``seq`` that was written before ``moment``.

    Without such a message, return the number before the oldest remaining one, and 0 for an empty log. The search takes a
    few index lookups however long the log is, and fewer for a recent moment.
    """
    rows = Message.objects.filter(channel_id=channel_id)
    newest = rows.order_by("-seq").values_list("seq", "created_at").first()
    if newest is None:
        return 0
    if newest[1] < moment:
        return newest[0]
    low, high, reach = (first_seq(channel_id) or newest[0]) - 1, newest[0] - 1, 8
    # Invariant: messages up to `low` were written before the moment or are gone, and messages above `high` were not.
    while low < high:
        middle = max((low + high + 1) // 2, high - reach)
        reach *= 8
        row = rows.filter(seq__lte=middle, seq__gt=low).order_by("-seq").values_list("seq", "created_at").first()
        if row is None or row[1] < moment:
            low = middle
        else:
            high = row[0] - 1
    return low


def parse_moment(text: str) -> datetime | None:
    """Return the time of an ISO text (without a zone: UTC).

    Returns None for another text, and for a year so extreme that the time has no form in another zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if not 1 < moment.year < 9999:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
