"""The streams of one batch of entries, in the batch's transaction.

The rows of all streams that the entries name are locked and read at once. The entries then change them in memory, in
their order. At the end a few statements write what changed. So a group of parts costs three statements, however many
streams it belongs to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import connection
from django.db.models.functions import Length

from ..models import Message
from ..protocol import growing
from ..protocol.errors import BusError, ErrorCode
from ..protocol.kept import legible
from .effects import OPEN, STOPPED, Effect, Ending, Opening, Part, Steer
from .entry import Entry
from .streamed import joined
from .streamed_row import Row
from .streamed_sql import STREAMS_OF_VENDOR, StreamStatements

#: Steers that may wait for one owner. The list of those that were not taken is a part of the end.
MOST_STEERS = 1000
#: Rows of a stream's parts that become one. Each byte is written twice, and a stream has few rows.
MERGED = 256
#: Open steers that one answer shows to an owner without a connection.
SHOWN_STEERS = 100
#: Characters of open steers that all answers of one batch show. The first steer counts as fitting.
SHOWN_LENGTH = 524288


class StreamBatch:
    """The streams of a batch. ``effects`` are the entries that have an effect.

    ``patience`` and ``pass_over`` are those of ``append_batch``. ``locked`` has the channels of streams whose rows other
    transactions lock.
    """

    def __init__(self, cursor: Any, effects: Sequence[Entry], *, patience: float | None, pass_over: bool) -> None:
        self._cursor = cursor
        self._sql: StreamStatements = STREAMS_OF_VENDOR[connection.vendor]
        names: set[str] = set()
        # All entries but plain parts, which are by far the most.
        special: list[Entry] = []
        for entry in effects:
            effect = entry.effect
            assert effect is not None
            effect.reset()
            names.add(effect.of or entry.uid)
            if not isinstance(effect, Part) or effect.end is not None or effect.took or effect.wants_steers:
                special.append(entry)
        uids = sorted(names)
        rows = [Row(*row) for row in self._sql.lock(cursor, uids, patience=patience, pass_over=pass_over)]
        self._rows = {row.uid: row for row in rows}
        self.locked: set[int] = set()
        if pass_over and len(rows) < len(uids):
            held = self._sql.existing(cursor, [uid for uid in uids if uid not in self._rows])
            self.locked = {entry.channel_id for entry in effects if _name(entry) in held}
        self._wanting: list[tuple[Row, Part]] = []
        self._counts: dict[str, int] = {}
        if special:
            self._read_what_ends(special, Counter(_name(entry) for entry in effects))
            self._counts = self._open_streams(special)

    def _read_what_ends(self, effects: Sequence[Entry], parts: Counter[str]) -> None:
        """Read the contents of streams that the batch may end, and the steers of those whose steers it may touch.

        ``parts`` says how many entries each stream has in the batch.
        """
        ending: dict[int, Row] = {}
        steered: dict[int, Row] = {}
        for entry in effects:
            effect = entry.effect
            if isinstance(effect, Part):
                row = self._rows.get(effect.of)
                # Nobody but the owner makes the database read a whole stream.
                if row is None or row.state != OPEN or not row.belongs_to(effect):
                    continue
                # An end with a wrong number is refused.
                if effect.end is not None and row.have <= effect.n <= row.have + parts[effect.of]:
                    ending[row.id] = row
                if row.steers:
                    steered[row.id] = row
            elif isinstance(effect, Ending):
                row = self._rows.get(effect.of)
                if row is not None and row.state == OPEN:
                    ending[row.id] = row
                    if row.steers:
                        steered[row.id] = row
        if ending:
            for stream_id, pieces in self._sql.contents(self._cursor, list(ending)).items():
                ending[stream_id].before = pieces
        if steered:
            for stream_id, steers in self._sql.steers(self._cursor, list(steered)).items():
                steered[stream_id].open_steers = steers

    def _open_streams(self, effects: Sequence[Entry]) -> dict[str, int]:
        limited = {e.effect.client_id for e in effects if isinstance(e.effect, Opening) and e.effect.most}
        return self._sql.count_open(self._cursor, list(limited)) if limited else {}

    # --- one entry after another --------------------------------------------------------------------------------------

    def repeated(self, entry: Entry) -> None:
        """Tell an entry whose key is known what its first copy did."""
        effect = entry.effect
        assert effect is not None
        effect.settled = True
        row = self._rows.get(_name(entry))
        # A stranger may repeat a plain message of its own with the name of somebody's stream. It learns nothing.
        if row is None or not _belong_together(entry, effect, row):
            return
        self._tell(row, effect)
        if isinstance(effect, Part):
            effect.untaken = _untaken(row)
        elif isinstance(effect, Steer):
            # The messages of a channel have one order, so a steer before the end reached an open stream.
            effect.steered = row.end_seq is None or (entry.seq or 0) < row.end_seq

    def admits(self, entry: Entry) -> bool:
        """Decide on an entry. Return whether its message goes into the log.

        A part without an end is applied here. An entry that is refused gets its ``error``, and a repeat its ``seq``.
        """
        effect = entry.effect
        assert effect is not None
        effect.settled = True
        row = self._rows.get(_name(entry))
        try:
            if isinstance(effect, Opening):
                self._may_open(effect, row)
                return True
            if row is None or row.channel_id != entry.channel_id:
                raise BusError(ErrorCode.STREAM_NOT_FOUND, details=[{"of": _name(entry)}])
            if isinstance(effect, Part):
                return self._admits_part(entry, effect, row)
            if isinstance(effect, Ending):
                if (row.state, row.attempt, row.have) != (OPEN, effect.attempt, effect.have):
                    raise _refused(ErrorCode.STREAM_LOST, row)
            elif row.state == OPEN and row.steers >= MOST_STEERS:
                text = f"{MOST_STEERS} steers wait for the owner of this stream."
                raise BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": "steers"}], 1.0)
        except BusError as problem:
            entry.error = problem
            if row is not None and not isinstance(effect, Opening):
                self._tell(row, effect)
            return False
        return True

    def keep(self, entry: Entry, seq: int) -> bytes:
        """Do what an admitted entry does besides its message, which gets ``seq``. Return the message's tail."""
        effect = entry.effect
        tail = entry.tail
        if isinstance(effect, Opening):
            row = Row(
                0, entry.uid, entry.channel_id, seq, effect.mode, OPEN, 0, 1, effect.client_id, effect.principal,
                effect.rest, False, 0, None, 0, "", 0, 0, new=True,
            )  # fmt: skip
            self._rows[entry.uid] = row
            self._counts[effect.client_id] = self._counts.get(effect.client_id, 0) + 1
            self._tell(row, effect)
            return tail
        row = self._rows[_name(entry)]
        if isinstance(effect, Steer):
            effect.steered = row.state == OPEN
            if effect.steered:
                row.came = (*row.came, (seq, entry.uid))
                row.open_steers = (*row.open_steers, (seq, entry.uid))
                row.steers += 1
                row.moved = True
        elif isinstance(effect, Part):
            if effect.mode and effect.n > row.have:
                self._add(row, effect)
            effect.untaken = [uid for _, uid in row.open_steers]
            tail = self._end(row, seq, effect.end or STOPPED, effect.payload)
        elif isinstance(effect, Ending):
            tail = self._end(row, seq, effect.state, None)
        if effect is not None:
            self._tell(row, effect)
        return tail

    def _tell(self, row: Row, effect: Effect) -> None:
        effect.stream = row.told()
        if row.opened_by is not None:
            row.opened_by.append(effect)

    def _may_open(self, effect: Opening, row: Row | None) -> None:
        """Raise ``BusError`` VALIDATION_ERROR or LIMIT_REACHED unless the entry may open a stream."""
        if row is not None:
            message = "Another stream has this id. Choose a new one."
            raise BusError(ErrorCode.VALIDATION_ERROR, message, [{"field": "id", "message": message}])
        if effect.most and self._counts.get(effect.client_id, 0) >= effect.most:
            text = f"You have {effect.most} open streams, which is the limit. End one first."
            raise BusError(ErrorCode.LIMIT_REACHED, text, [{"limit": "streams"}], 1.0)

    def _admits_part(self, entry: Entry, part: Part, row: Row) -> bool:
        """Apply a part, or decide whether an end goes into the log. Raises ``BusError`` for a refused one."""
        if not row.belongs_to(part):
            raise _refused(ErrorCode.STREAM_LOST, row)
        if row.state != OPEN:
            return self._repeats_end(entry, part, row)
        if part.mode and part.mode != row.mode:
            field, text = ("part", "text") if part.mode != "text" else ("delta", "parts")
            message = f"The stream's mode is {text}, so its appends have `{'delta' if text == 'text' else 'part'}`."
            raise BusError(ErrorCode.VALIDATION_ERROR, details=[{"field": field, "message": message, "of": row.uid}])
        following = bool(part.mode) and part.n == row.have + 1
        if not following and (part.n > row.have or (part.end is not None and part.n < row.have)):
            raise _refused(ErrorCode.STREAM_GAP, row)
        if following or part.end is not None:
            size = row.size + (_added(row, part) if following else 0) + len(part.payload or b"") + Part.ENVELOPE
            if size > part.max_bytes:
                text = f"The stream would have {size} bytes. The limit is {part.max_bytes}."
                raise _refused(ErrorCode.FRAME_TOO_LARGE, row, text)
        if part.took and row.open_steers:
            self._take(row, part.took)
        if part.end is not None:
            return True
        if following:
            self._add(row, part)
        elif part.mode:
            entry.duplicate = True
        row.moved = True
        self._tell(row, part)
        if part.wants_steers and row.open_steers:
            self._wanting.append((row, part))
        return False

    def _repeats_end(self, entry: Entry, part: Part, row: Row) -> bool:
        """Answer an append after the end: as the first time, if the owner repeats one. Raises ``BusError`` STREAM_ENDED."""
        if part.end is not None:
            if part.n != row.have or row.state not in (part.end, STOPPED):
                raise _refused(ErrorCode.STREAM_ENDED, row)
            entry.seq = row.end_seq
            part.untaken = _untaken(row)
        elif part.n > row.have:
            raise _refused(ErrorCode.STREAM_ENDED, row)
        entry.duplicate = True
        self._tell(row, part)
        return False

    def _add(self, row: Row, part: Part) -> None:
        row.size += _added(row, part)
        row.have += 1
        row.moved = True
        part.applied = True
        if part.data:
            if not row.pieces:
                row.first = part.n
                row.pieces = []
            row.pieces.append(part.data)

    def _take(self, row: Row, took: Sequence[str]) -> None:
        taken = [seq for seq, uid in row.open_steers if uid in took]
        if taken:
            row.taken = (*row.taken, *taken)
            row.open_steers = [steer for steer in row.open_steers if steer[0] not in taken]
            row.steers -= len(taken)
            row.moved = True

    def _end(self, row: Row, seq: int, state: str, payload: bytes | None) -> bytes:
        """End a stream at ``seq``. Return the tail of its ``stream_end``, with the whole content."""
        row.state = STOPPED if row.stopping else state
        row.end_seq = seq
        row.moved = True
        row.steers = 0
        if row.client_id in self._counts:
            self._counts[row.client_id] -= 1
        untaken = [uid for _, uid in row.open_steers]
        whole = joined(row.mode, (*row.before, *row.pieces))
        row.before = ()
        return growing.stream_end_tail(row.uid, row.seq, row.mode, row.state, row.have, untaken, payload, whole)

    # --- the statements -----------------------------------------------------------------------------------------------

    def write(self, moment: Any) -> None:
        """Write what the entries changed. ``moment`` is the time in the database's form."""
        cursor, sql = self._cursor, self._sql
        rows = [row for row in self._rows.values() if row.new or row.moved]
        grown = [row for row in rows if row.pieces and row.state == OPEN]
        for row in grown:
            row.loose += 1
            if row.loose >= MERGED:
                self._merge(row)
        self._open([row for row in rows if row.new], moment)
        moved = [row for row in rows if not row.new]
        if moved:
            sql.update(
                cursor, [(row.id, row.have, row.size, row.steers, row.loose, row.merged) for row in moved], moment
            )
        if grown:
            sql.insert_parts(
                cursor, [(row.id, row.first, row.have, joined(row.mode, row.pieces).decode()) for row in grown]
            )
        ended = [(row.id, row.state, row.end_seq) for row in moved if row.end_seq is not None]
        if ended:
            sql.end(cursor, ended, moment)
        self._write_steers([row for row in rows if row.state == OPEN])
        self._show_steers()

    def _merge(self, row: Row) -> None:
        """Make one row of the newest rows of a stream's parts. So the end of a long stream reads and removes few rows."""
        row.pieces = [*self._sql.take_loose(self._cursor, row.id, row.merged), *row.pieces]
        row.first = row.merged + 1
        row.loose, row.merged = 0, row.have

    def _open(self, rows: Sequence[Row], moment: Any) -> None:
        if not rows:
            return
        ids = self._sql.insert(
            self._cursor,
            [
                (
                    row.uid, row.channel_id, row.seq, row.mode, row.state, row.have, row.size, row.client_id, row.principal,
                    row.rest, row.attempt, row.token_digest, row.steers, row.end_seq, row.loose, row.merged,
                    None if row.end_seq is None else moment, moment, moment,
                )
                for row in rows
            ],
        )  # fmt: skip
        for row in rows:
            row.id = ids[row.uid]
            for effect in row.opened_by or ():
                if effect.stream is not None:
                    effect.stream = effect.stream._replace(id=row.id)

    def _write_steers(self, rows: Sequence[Row]) -> None:
        taken = [(row.id, seq) for row in rows for seq in row.taken]
        if taken:
            self._sql.take_steers(self._cursor, taken)
        came = [(row.id, uid, seq) for row in rows for seq, uid in row.came if seq not in row.taken]
        if came:
            self._sql.insert_steers(self._cursor, came)

    def _show_steers(self) -> None:
        """Read the open steers for owners without a connection: the oldest, up to a length for the whole batch.

        An owner finds the next ones in later answers.
        """
        left = SHOWN_LENGTH
        for row, part in self._wanting:
            seqs = [seq for seq, _ in row.open_steers[:SHOWN_STEERS]]
            found = Message.objects.filter(channel_id=row.channel_id, seq__in=seqs).order_by("seq")
            fit: list[int] = []
            for seq, size in found.values_list("seq", Length("frame")):
                if size > left and left < SHOWN_LENGTH:
                    left = 0
                    break
                left -= size
                fit.append(seq)
            if fit:
                frames = found.filter(seq__in=fit).values_list("seq", "frame")
                part.steers = [legible(frame.encode(), seq) for seq, frame in frames]
            if left <= 0:
                break


def _name(entry: Entry) -> str:
    """Return the uid of the stream that an entry opens or changes."""
    return (entry.effect.of if entry.effect is not None else "") or entry.uid


def _belong_together(entry: Entry, effect: Effect, row: Row) -> bool:
    """Return whether the message that ``entry`` repeats can have had this effect on the stream."""
    if row.channel_id != entry.channel_id:
        return False
    if isinstance(effect, Opening):
        return (row.seq, row.client_id, row.principal) == (entry.seq, effect.client_id, effect.principal)
    return not isinstance(effect, Part) or row.belongs_to(effect)


class _End(msgspec.Struct):
    """The list of a ``stream_end`` that names the steers which were not taken."""

    untaken: list[str] = []


def _untaken(row: Row) -> list[str]:
    """Return the steers that the end of a stream lists, for an owner that repeats its end. A batch reads an end once."""
    if row.untaken is None:
        ends = Message.objects.filter(channel_id=row.channel_id, seq=row.end_seq or 0)
        frame = ends.values_list("frame", flat=True).first()
        row.untaken = [] if frame is None else msgspec.json.decode(frame, type=_End).untaken
    return row.untaken


def _added(row: Row, part: Part) -> int:
    """Return by how many bytes a part makes a stream longer. Values of mode ``parts`` have commas between."""
    return len(part.data) + (1 if row.mode != "text" and row.size else 0)


def _refused(code: ErrorCode, row: Row, text: str | None = None) -> BusError:
    """Return the error of an append, with the stream's number of parts."""
    return BusError(code, text, [{"of": row.uid, "have": row.have, "state": row.state}])
