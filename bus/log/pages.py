"""Pages over one log or several logs at once, with a bound on the rows that each page reads.

Every query is a range of the (channel, seq) index. The bounds hold for a page, however many logs it covers. A page with a
filter reads about :data:`SCAN` rows at most, and a search for text about :data:`SCAN_BYTES` bytes at most. A page over
several logs takes about :data:`ROWS` matching rows at most. Each page says where the next one begins. It may have fewer
messages than requested, or none, and still have a next page.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import Func, IntegerField, Q, QuerySet

from ..db.reading import database
from ..db.reading import rows as rows_of
from ..models import Message
from ..protocol.kept import legible

#: Rows that a page with a filter reads, and bytes of them for a search for text. The logs of a page share them.
SCAN, SCAN_BYTES = 10_000, 16 * 1024 * 1024
#: Matching rows that a page over several logs takes from all of them, to find out which come first.
ROWS = 5_000
#: The fewest rows of one log that such a page takes or reads.
FEWEST = 20
#: Rows that are fetched from the database at a time where their bytes are counted.
CHUNK = 50


class Span(msgspec.Struct):
    """The part of a log to read: the seqs between ``low`` and ``high``, both exclusive."""

    channel_id: int
    low: int
    high: int

    @property
    def empty(self) -> bool:
        """Return whether the span has no seq."""
        return self.high - self.low <= 1


class Wanted(msgspec.Struct, frozen=True):
    """A filter of messages: of one type, of some senders (each since a time), with a text (in either spelling of JSON)."""

    type: str | None = None
    senders: Mapping[str, datetime | None] | None = None
    text: str | None = None

    @property
    def everything(self) -> bool:
        """Return whether every message matches."""
        return self.type is None and self.senders is None and self.text is None

    def narrow(self, rows: QuerySet[Message]) -> QuerySet[Message]:
        """Return the rows that may match.

        A search for text covers the whole frame, so it finds too many rows rather than too few.
        """
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
        """Return whether the text is in the message or in a value of its payload, and not only in other fields of the frame."""
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


#: The place of a message among those of other logs: its time, and its row's id among messages of the same time.
_Key = tuple[datetime, int]


class _Budget(msgspec.Struct, frozen=True):
    """The most that a page may take of one log.

    ``rows`` are matching rows, ``scan`` and ``scan_bytes`` are rows and bytes to read. ``frames`` are bytes of frames
    (None: read without frames).
    """

    rows: int
    scan: int
    scan_bytes: int
    frames: int | None

    @classmethod
    def of(cls, logs: int, limit: int, most_bytes: int) -> _Budget:
        """Return the share of each of the ``logs``.

        A single log is read with its frames. Of several logs, only frames of the final page are read.
        """
        if logs <= 1:
            return cls(limit, SCAN, SCAN_BYTES, most_bytes)
        return cls(min(limit, max(FEWEST, ROWS // logs)), max(FEWEST, SCAN // logs), max(1, SCAN_BYTES // logs), None)


class _Part:
    """The rows of one log for a page."""

    def __init__(self, span: Span, wanted: Wanted, budget: _Budget, descending: bool) -> None:
        self.span = span
        low, high = span.low, span.high
        if not wanted.everything:
            low, high = _looked_at(span, wanted, budget, descending)
        rows = rows_of(Message).filter(channel_id=span.channel_id, seq__gt=low, seq__lt=high)
        rows = wanted.narrow(rows).order_by("-seq" if descending else "seq")
        read, last, cut = _read(rows, wanted, budget)
        self.rows = read
        # The last seq that was read: that of the last row if more may follow, else the edge of the range.
        self.edge = last.seq if cut and last is not None else (low + 1 if descending else high - 1)
        ended = self.edge - 1 <= span.low if descending else self.edge + 1 >= span.high
        #: The time up to which the log was read; None if it was read to its end.
        self.frontier: datetime | None = None
        if not ended:
            known = cut and last is not None
            self.frontier = last.at if known and last else _time_near(span.channel_id, self.edge, descending)
        self.keys: list[_Key] = []
        # The clocks of two processes differ, but the order of a log is fixed. So no message sorts before its predecessor.
        earliest = min if descending else max
        for row in self.rows:
            key = (row.at, row.id)
            self.keys.append(earliest(self.keys[-1], key) if self.keys else key)
        if self.frontier is not None and self.keys:
            self.frontier = earliest(self.frontier, self.keys[-1][0])


def _looked_at(span: Span, wanted: Wanted, budget: _Budget, descending: bool) -> tuple[int, int]:
    """Return the part of a log that a page with a filter reads, as ``low`` and ``high`` of a span."""
    low, high = span.low, span.high
    low, high = (max(low, high - 1 - budget.scan), high) if descending else (low, min(high, low + 1 + budget.scan))
    if wanted.text is None:
        return low, high
    # Frames differ in size by a factor of a thousand, and a search for text reads whole frames.
    rows = rows_of(Message).filter(channel_id=span.channel_id, seq__gt=low, seq__lt=high)
    rows = rows.order_by("-seq" if descending else "seq").annotate(size=FrameBytes("frame"))
    total = 0
    for seq, size in (
        rows.values_list("seq", "size").iterator(chunk_size=CHUNK)
        if database().vendor == "sqlite"
        else (rows.values_list("seq", "size"))
    ):
        total += size
        if total >= budget.scan_bytes:
            return (seq - 1, high) if descending else (low, seq + 1)
    return low, high


class FrameBytes(Func):
    """The length of a text in the database in bytes."""

    function = "OCTET_LENGTH"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Return the SQL for SQLite, which has no ``OCTET_LENGTH`` before version 3.43."""
        return self.as_sql(compiler, connection, template="LENGTH(CAST(%(expressions)s AS BLOB))", **context)


def _read(rows: QuerySet[Message], wanted: Wanted, budget: _Budget) -> tuple[list[Found], Found | None, bool]:
    """Return the matching rows within the budget, the last row that was read, and whether more may follow it."""
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
    """Give the rows. ``large`` rows are fetched in small chunks, so that few of them are in memory.

    PostgreSQL's cursor needs a transaction. Without one it would belong to the session, and a pooler may give the next
    request another session. The server would also hold all rows ready. SQLite's cursor needs no transaction, and Django
    would begin it as one that writes.
    """
    alone = large and database().vendor == "postgresql"
    with transaction.atomic(using=database().alias, savepoint=False) if alone else nullcontext():
        yield values.iterator(chunk_size=CHUNK) if large else values


def _with_frames(page: Sequence[Found], most_bytes: int) -> tuple[list[Found], int]:
    """Return the first of the messages with their frames, and how many messages of ``page`` were handled.

    The frames have at most ``most_bytes`` together, unless it is a single frame. Messages that were pruned meanwhile are
    only counted.
    """
    whole: list[Found] = []
    size = 0
    for start in range(0, len(page), CHUNK):
        part = page[start : start + CHUNK]
        frames = dict(rows_of(Message).filter(id__in=[row.id for row in part]).values_list("id", "frame"))
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
    rows = rows_of(Message).filter(channel_id=channel_id)
    near = rows.filter(seq__gte=seq).order_by("seq") if descending else rows.filter(seq__lte=seq).order_by("-seq")
    return near.values_list("created_at", flat=True).first()


def read_page(
    spans: Sequence[Span], wanted: Wanted, *, limit: int, descending: bool, most_bytes: int
) -> tuple[list[Found], list[Span]]:
    """Return up to ``limit`` messages of the logs, ordered by time, and the span of each log that is left to read.

    A span that is left may be empty. The frames have at most ``most_bytes`` together, unless it is a single frame. Within
    a log the order is that of ``seq``. Each log takes one query, and one more if a filter ended early. Every fifty
    messages of a page over several logs take another query.
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
        # Behind a log's frontier there may be unread messages that come before those of other logs.
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
