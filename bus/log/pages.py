"""Pages over several logs at once, for whoever looks through them: never more rows than a page is worth.

Every query is a range of the (channel, seq) index. What one page looks at is bounded, however many logs it is about: where a
filter may pass few rows by, :data:`SCAN` rows, and :data:`SCAN_BYTES` where a text is looked for; :data:`ROWS` rows that fit. It
says where to go on; it may then hold fewer messages than asked for, or none, and still have a next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import Func, IntegerField, Q, QuerySet

from ..models import Message
from ..protocol.kept import legible

#: Rows that a page with a filter looks at, and bytes of them where it looks for a text; its logs share them.
SCAN, SCAN_BYTES = 10_000, 16 * 1024 * 1024
#: Rows that fit which a page over several logs takes from them all, to find out which come first.
ROWS = 5_000
#: The fewest rows of one log that such a page takes or looks at.
FEWEST = 20
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


class _Budget(msgspec.Struct, frozen=True):
    """What a page may take of one log: rows that fit, rows and bytes to look at, and bytes of frames (None: no frames)."""

    rows: int
    scan: int
    scan_bytes: int
    frames: int | None

    @classmethod
    def of(cls, logs: int, limit: int, most_bytes: int) -> _Budget:
        """The share of each of the ``logs``. One alone is read with its frames; of several, only what is on the page."""
        if logs <= 1:
            return cls(limit, SCAN, SCAN_BYTES, most_bytes)
        return cls(min(limit, max(FEWEST, ROWS // logs)), max(FEWEST, SCAN // logs), max(1, SCAN_BYTES // logs), None)


class _Part:
    """What one log adds to a page."""

    def __init__(self, span: Span, wanted: Wanted, budget: _Budget, descending: bool) -> None:
        self.span = span
        low, high = span.low, span.high
        if not wanted.everything:
            low, high = _looked_at(span, wanted, budget, descending)
        rows = Message.objects.filter(channel_id=span.channel_id, seq__gt=low, seq__lt=high)
        rows = wanted.narrow(rows).order_by("-seq" if descending else "seq")
        read, last, cut = _read(rows, wanted, budget)
        self.rows = read
        # Where the look ended: at the last row, if there may be more behind it, else at the edge of the range.
        self.edge = last.seq if cut and last is not None else (low + 1 if descending else high - 1)
        ended = self.edge - 1 <= span.low if descending else self.edge + 1 >= span.high
        #: The time up to which the log was looked at; None when to its end.
        self.frontier: datetime | None = None
        if not ended:
            known = cut and last is not None
            self.frontier = last.at if known and last else _time_near(span.channel_id, self.edge, descending)
        self.keys: list[_Key] = []
        # The clocks of two processes differ, the order of a log does not: no message stands before its predecessor.
        earliest = min if descending else max
        for row in self.rows:
            key = (row.at, row.id)
            self.keys.append(earliest(self.keys[-1], key) if self.keys else key)
        if self.frontier is not None and self.keys:
            self.frontier = earliest(self.frontier, self.keys[-1][0])


def _looked_at(span: Span, wanted: Wanted, budget: _Budget, descending: bool) -> tuple[int, int]:
    """The part of a log that a page with a filter looks at, as ``low`` and ``high`` of a span."""
    low, high = span.low, span.high
    low, high = (max(low, high - 1 - budget.scan), high) if descending else (low, min(high, low + 1 + budget.scan))
    if wanted.text is None:
        return low, high
    # Frames differ in size by a factor of a thousand; a text is looked for in all of a frame.
    rows = Message.objects.filter(channel_id=span.channel_id, seq__gt=low, seq__lt=high)
    rows = rows.order_by("-seq" if descending else "seq").annotate(size=FrameBytes("frame"))
    total = 0
    for seq, size in (
        rows.values_list("seq", "size").iterator(chunk_size=CHUNK)
        if connection.vendor == "sqlite"
        else (rows.values_list("seq", "size"))
    ):
        total += size
        if total >= budget.scan_bytes:
            return (seq - 1, high) if descending else (low, seq + 1)
    return low, high


class FrameBytes(Func):
    """The bytes of a text in the database."""

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """SQLite before 3.43 has no such function."""
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


def _read(rows: QuerySet[Message], wanted: Wanted, budget: _Budget) -> tuple[list[Found], Found | None, bool]:
    """The first of the rows that the budget allows; the last one that was looked at; and whether there may be more behind it."""
    limit, most_bytes = budget.rows, budget.frames
    with_frame = most_bytes is not None or wanted.text is not None
    fields = ("created_at", "id", "channel_id", "seq", *(("frame",) if with_frame else ()))
    read: list[Found] = []
    last: Found | None = None
    size = count = 0
    with _a_few_at_a_time(rows.values_list(*fields)[:limit], large=with_frame and limit > CHUNK) as values:
        for row in values:
            frame = legible(row[4].encode(), row[3]) if with_frame else b""
            size += len(frame)
            if most_bytes is not None and size > most_bytes and last is not None:
                return read, last, True
            count += 1
            at, key, channel_id, seq = row[:4]
            last = Found(at, key, channel_id, seq, frame if most_bytes is not None else b"")
            if not with_frame or wanted.holds(frame):
                read.append(last)
    return read, last, count == limit


@contextmanager
def _a_few_at_a_time(values: QuerySet[Any, Any], *, large: bool) -> Iterator[Iterable[Any]]:
    """The rows, and where they are ``large`` never many of them in memory.

    PostgreSQL's cursor lives in a transaction: outside of one it would belong to the session, and between two requests a pooler
    may give another; also the server would keep all rows ready. SQLite's needs none, and would take it for writing.
    """
    alone = large and connection.vendor == "postgresql"
    with transaction.atomic(savepoint=False) if alone else nullcontext():
        yield values.iterator(chunk_size=CHUNK) if large else values


def _with_frames(page: Sequence[Found], most_bytes: int) -> tuple[list[Found], int]:
    """The first of the messages with their frames, as many as ``most_bytes`` allow (but one), and how many these were.

    What has been pruned meanwhile is among the number only.
    """
    whole: list[Found] = []
    size = 0
    for start in range(0, len(page), CHUNK):
        part = page[start : start + CHUNK]
        frames = dict(Message.objects.filter(id__in=[row.id for row in part]).values_list("id", "frame"))
        for position, row in enumerate(part, start):
            if row.id not in frames:
                continue
            frame = legible(frames[row.id].encode(), row.seq)
            size += len(frame)
            if size > most_bytes and whole:
                return whole, position
            whole.append(msgspec.structs.replace(row, frame=frame))
    return whole, len(page)


def _time_near(channel_id: int, seq: int, descending: bool) -> datetime | None:
    rows = Message.objects.filter(channel_id=channel_id)
    near = rows.filter(seq__gte=seq).order_by("seq") if descending else rows.filter(seq__lte=seq).order_by("-seq")
    return near.values_list("created_at", flat=True).first()


def read_page(
    spans: Sequence[Span], wanted: Wanted, *, limit: int, descending: bool, most_bytes: int
) -> tuple[list[Found], list[Span]]:
    """Up to ``limit`` messages of the logs in the order of time, and what is left to read of each log (maybe an empty span).

    Their frames have no more than ``most_bytes`` together, unless it is one. Within a log the order is that of ``seq``.
    One query a log, one more for each that a filter ended early, and one for every fifty messages of a page over several logs.
    """
    spans = [span for span in spans if not span.empty]
    budget = _Budget.of(len(spans), limit, most_bytes)
    parts = [_Part(span, wanted, budget, descending) for span in spans]
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
    chosen = page = [row for _, row in merged[:limit]]
    if budget.frames is None:
        page, done = _with_frames(chosen, most_bytes)
        chosen = chosen[:done]
    given: dict[int, int] = {}
    for row in chosen:
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
