"""Pages over several logs at once, for whoever looks through them: never more rows than a page is worth.

Every query is a range of the (channel, seq) index. Where a filter may pass few rows by, a page looks at :data:`SCAN` rows of
a log at most and says where to go on; it may then hold fewer messages than asked for, or none, and still have a next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from itertools import accumulate

import msgspec
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from ..models import Message
from ..protocol.kept import legible

#: Rows of one log that a page with a filter looks at.
SCAN = 10_000
#: Rows that are taken from the database at a time where their bytes are counted.
CHUNK = 50


class Span(msgspec.Struct):
    """What is to be read of a log: the seqs between ``low`` and ``high``, without both."""

    channel_id: int
    low: int
    high: int

    @property
    def empty(self) -> bool:
        """Whether no seq lies in it."""
        return self.high - self.low <= 1


class Wanted(msgspec.Struct, frozen=True):
    """Which messages: of one type, of some senders (each since a time), holding a text (in either spelling of JSON)."""

    type: str | None = None
    senders: Mapping[str, datetime | None] | None = None
    text: str | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is filtered out."""
        return self.type is None and self.senders is None and self.text is None

    def narrow(self, rows: QuerySet[Message]) -> QuerySet[Message]:
        """The rows that may be wanted; a text is looked for in the whole frame, which finds too much rather than too little."""
        if self.type is not None:
            rows = rows.filter(type=self.type)
        if self.senders is not None:
            from_them = Q(sender__in=[sender for sender, since in self.senders.items() if since is None])
            for sender, since in self.senders.items():
                if since is not None:
                    from_them |= Q(sender=sender, created_at__gte=since)
            rows = rows.filter(from_them)
        if self.text is not None:
            plain = msgspec.json.encode(self.text).decode()[1:-1]
            escaped = "".join(c if c.isascii() else _escaped(c) for c in plain)
            rows = rows.filter(Q(frame__icontains=plain) | Q(frame__icontains=escaped))
        return rows

    def holds(self, frame: bytes) -> bool:
        """Whether the text is in the message or in one of the payload's values, and not just in the frame's own words."""
        if self.text is None:
            return True
        found = msgspec.json.decode(frame)
        return _contains(found.get("message"), self.text.casefold()) or _contains(
            found.get("payload"), self.text.casefold()
        )


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _contains(value: object, text: str) -> bool:
    if isinstance(value, str):
        return text in value.casefold()
    if isinstance(value, dict):
        return any(_contains(inner, text) for inner in value.values())
    if isinstance(value, list):
        return any(_contains(inner, text) for inner in value)
    return value is not None and not isinstance(value, bool) and text in str(value)


class Found(msgspec.Struct, frozen=True):
    """One message of a page."""

    at: datetime
    id: int
    channel_id: int
    seq: int
    frame: bytes


#: Where a message stands between those of other logs: its time, and the row's id among those of one moment.
_Key = tuple[datetime, int]


class _Part:
    """What one log adds to a page."""

    def __init__(self, span: Span, wanted: Wanted, limit: int, most_bytes: int | None, descending: bool) -> None:
        self.span = span
        low, high = span.low, span.high
        if not wanted.everything:
            low, high = (max(low, high - 1 - SCAN), high) if descending else (low, min(high, low + 1 + SCAN))
        rows = Message.objects.filter(channel_id=span.channel_id, seq__gt=low, seq__lt=high)
        rows = wanted.narrow(rows).order_by("-seq" if descending else "seq")
        read, cut = _read(rows, limit, most_bytes)
        cut = cut or len(read) == limit
        self.rows = [row for row in read if wanted.holds(row.frame)]
        # Where the look ended: at the last row, if there may be more behind it, else at the edge of the range.
        self.edge = read[-1].seq if cut else (low + 1 if descending else high - 1)
        ended = self.edge - 1 <= span.low if descending else self.edge + 1 >= span.high
        #: The time up to which the log was looked at; None when to its end.
        self.frontier: datetime | None = None
        if not ended:
            self.frontier = read[-1].at if cut else _time_near(span.channel_id, self.edge, descending)
        self.keys: list[_Key] = []
        # The clocks of two processes differ, the order of a log does not: no message stands before its predecessor.
        earliest = min if descending else max
        for row in self.rows:
            key = (row.at, row.id)
            self.keys.append(earliest(self.keys[-1], key) if self.keys else key)
        if self.frontier is not None and self.keys:
            self.frontier = earliest(self.frontier, self.keys[-1][0])


def _read(rows: QuerySet[Message], limit: int, most_bytes: int | None) -> tuple[list[Found], bool]:
    """The first ``limit`` of the rows, or fewer that ``most_bytes`` allow (but one); and whether the bytes ended it."""
    values = rows.values_list("created_at", "id", "channel_id", "seq", "frame")[:limit]
    read: list[Found] = []
    size = 0
    in_parts = most_bytes is not None and limit > CHUNK
    # PostgreSQL's cursor lives in a transaction: outside of one it would belong to the session, and between two requests a pooler
    # may give another; also the server would keep all rows ready. SQLite's needs none, and would take it for writing.
    alone = in_parts and connection.vendor == "postgresql"
    with transaction.atomic(savepoint=False) if alone else nullcontext():
        for row in values.iterator(chunk_size=CHUNK) if in_parts else values:
            frame = legible(row[4].encode(), row[3])
            size += len(frame)
            if most_bytes is not None and size > most_bytes and read:
                return read, True
            read.append(Found(*row[:4], frame))
    return read, False


def _time_near(channel_id: int, seq: int, descending: bool) -> datetime | None:
    rows = Message.objects.filter(channel_id=channel_id)
    near = rows.filter(seq__gte=seq).order_by("seq") if descending else rows.filter(seq__lte=seq).order_by("-seq")
    return near.values_list("created_at", flat=True).first()


def read_page(
    spans: Sequence[Span], wanted: Wanted, *, limit: int, descending: bool, most_bytes: int | None = None
) -> tuple[list[Found], list[Span]]:
    """Up to ``limit`` messages of the logs in the order of time, and what is left to read of each log (maybe an empty span).

    Their frames have no more than ``most_bytes`` together, unless it is one. Within a log the order is that of ``seq``.
    One query a log, and one more for each that a filter ended early.
    """
    parts = [_Part(span, wanted, limit, most_bytes, descending) for span in spans if not span.empty]
    merged = sorted(
        ((key, row) for part in parts for key, row in zip(part.keys, part.rows, strict=True)),
        key=lambda item: item[0],
        reverse=descending,
    )
    frontiers = [part.frontier for part in parts if part.frontier is not None]
    if frontiers:
        # Beyond a log's frontier there may be messages of it that come before those of others.
        bound = max(frontiers) if descending else min(frontiers)
        merged = [item for item in merged if (item[0][0] >= bound if descending else item[0][0] <= bound)]
    page = [row for _, row in merged[:limit]]
    if most_bytes is not None:
        sizes = accumulate(len(row.frame) for row in page)
        page = page[: max(1, sum(size <= most_bytes for size in sizes))]
    given: dict[int, int] = {}
    for row in page:
        given[row.channel_id] = row.seq
    left: list[Span] = []
    for part in parts:
        span = part.span
        if not part.rows or given.get(span.channel_id) == part.rows[-1].seq:
            position = part.edge
        elif span.channel_id in given:
            position = given[span.channel_id]
        else:
            left.append(span)
            continue
        left.append(
            Span(span.channel_id, span.low, position) if descending else Span(span.channel_id, position, span.high)
        )
    return page, left
