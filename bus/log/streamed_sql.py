"""The SQL statements of ``log.streamed_batch``, one class per database, in the manner of ``log.sql``.

PostgreSQL locks the rows of streams after those of channels, in the order of their ids, so that two processes never
deadlock. On SQLite the transaction already holds the lock on everything, and answers come as one JSON value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from .sql import in_powers_of_two, json_text

T = TypeVar("T")

#: The columns of a locked stream, in the order of ``streamed_row.Row``.
_COLUMNS = (
    "id, uid, channel_id, seq, mode, state, have, attempt, client_id, principal, rest, stop_requested_at IS NOT NULL,"
    " steers, end_seq, bytes, token_digest, loose, merged"
)
_NEW = (
    "uid, channel_id, seq, mode, state, have, bytes, client_id, principal, rest, attempt, token_digest, steers,"
    " end_seq, loose, merged, ended_at, opened_at, touched_at"
)


class StreamStatements(Protocol):
    """The statements for streams. ``cursor`` is the database's own cursor. Rows are tuples of the named columns."""

    def lock(
        self, cursor: Any, uids: Sequence[str], *, patience: float | None = None, pass_over: bool = False
    ) -> list[Sequence[Any]]:
        """Lock the streams with these uids. Return their rows, without locked ones if ``pass_over``.

        ``patience`` is how many seconds to wait for any lock of the transaction (None: as the database is configured).
        """
        ...

    def existing(self, cursor: Any, uids: Sequence[str]) -> set[str]:
        """Return which of the uids name a stream, locked or not."""
        ...

    def count_open(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        """Return how many open streams each client owns. Clients without one are left out."""
        ...

    def contents(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[bytes]]:
        """Return the kept pieces of each stream, in their order."""
        ...

    def steers(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[tuple[int, str]]]:
        """Return the seq and uid of the steers of each stream that its owner has not taken, in the order of seq."""
        ...

    def snapshots(self, cursor: Any, ids: Sequence[int]) -> list[tuple[Sequence[Any], list[bytes]]]:
        """Return the rows of streams, each with its kept pieces, as they are at one moment."""
        ...

    def insert(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> dict[str, int]:
        """Insert streams. Return their ids by uid."""
        ...

    def update(self, cursor: Any, rows: Sequence[tuple[int, ...]], now: Any) -> None:
        """Set ``(id, have, bytes, steers, loose, merged)`` of streams, and the time at which they moved."""
        ...

    def end(self, cursor: Any, rows: Sequence[tuple[int, str, int]], now: Any) -> None:
        """Set ``(id, state, end_seq)`` of streams that end, and remove their parts and steers."""
        ...

    def insert_parts(self, cursor: Any, rows: Sequence[tuple[int, int, int, str]]) -> None:
        """Insert rows of ``(stream_id, first, n, data)``."""
        ...

    def take_loose(self, cursor: Any, stream_id: int, merged: int) -> list[bytes]:
        """Remove the parts of a stream after number ``merged``. Return their pieces in their order."""
        ...

    def insert_steers(self, cursor: Any, rows: Sequence[tuple[int, str, int]]) -> None:
        """Insert rows of ``(stream_id, uid, seq)``."""
        ...

    def take_steers(self, cursor: Any, rows: Sequence[tuple[int, int]]) -> None:
        """Remove the steers at each ``(stream_id, seq)``."""
        ...


class SqliteStreams:
    """SQLite."""

    def lock(
        self, cursor: Any, uids: Sequence[str], *, patience: float | None = None, pass_over: bool = False
    ) -> list[Sequence[Any]]:
        return _one(
            cursor,
            f"SELECT json_group_array(json_array({_COLUMNS})) FROM bus_stream"
            " WHERE uid IN (SELECT value FROM json_each(%s))",
            json_text(uids),
        )

    def existing(self, cursor: Any, uids: Sequence[str]) -> set[str]:
        return {row[1] for row in self.lock(cursor, uids)}

    def count_open(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        rows = _one(
            cursor,
            "SELECT json_group_array(json_array(client_id, n)) FROM (SELECT client_id, count(*) AS n FROM bus_stream"
            " WHERE state = 'open' AND client_id IN (SELECT value FROM json_each(%s)) GROUP BY client_id)",
            json_text(client_ids),
        )
        return dict(rows)

    def contents(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[bytes]]:
        rows = _one(
            cursor,
            "SELECT json_group_array(json_array(stream_id, n, data)) FROM bus_streampart"
            " WHERE stream_id IN (SELECT value FROM json_each(%s))",
            json_text(ids),
        )
        # The order of an aggregate's rows is not promised.
        return _by_stream((stream_id, data.encode()) for stream_id, _, data in sorted(rows))

    def steers(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[tuple[int, str]]]:
        rows = _one(
            cursor,
            "SELECT json_group_array(json_array(stream_id, seq, uid)) FROM bus_streamsteer"
            " WHERE stream_id IN (SELECT value FROM json_each(%s))",
            json_text(ids),
        )
        return _by_stream((stream_id, (seq, uid)) for stream_id, seq, uid in sorted(rows))

    def snapshots(self, cursor: Any, ids: Sequence[int]) -> list[tuple[Sequence[Any], list[bytes]]]:
        rows = _one(
            cursor,
            f"SELECT json_group_array(json_array({_COLUMNS}, json((SELECT json_group_array(json_array(n, data))"
            " FROM bus_streampart WHERE stream_id = bus_stream.id)))) FROM bus_stream"
            " WHERE id IN (SELECT value FROM json_each(%s))",
            json_text(ids),
        )
        return [(row[:-1], [data.encode() for _, data in sorted(row[-1])]) for row in rows]

    def insert(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in in_powers_of_two(rows):
            values = ",".join([f"({','.join(['%s'] * len(part[0]))})"] * len(part))
            cursor.execute(
                f"INSERT INTO bus_stream ({_NEW}) VALUES {values} RETURNING uid, id",
                [value for row in part for value in row],
            )
            found.update(cursor.fetchall())
        return found

    def update(self, cursor: Any, rows: Sequence[tuple[int, ...]], now: Any) -> None:
        if len(rows) == 1:
            cursor.execute(
                "UPDATE bus_stream SET have = %s, bytes = %s, steers = %s, loose = %s, merged = %s, touched_at = %s"
                " WHERE id = %s",
                (*rows[0][1:], now, rows[0][0]),
            )
            return
        for part in in_powers_of_two(rows):
            values = ",".join(["(%s,%s,%s,%s,%s,%s)"] * len(part))
            cursor.execute(
                f"WITH moved(id, have, bytes, steers, loose, merged) AS (VALUES {values})"
                " UPDATE bus_stream SET have = moved.have, bytes = moved.bytes, steers = moved.steers,"
                " loose = moved.loose, merged = moved.merged, touched_at = %s FROM moved WHERE bus_stream.id = moved.id",
                [*(value for row in part for value in row), now],
            )

    def end(self, cursor: Any, rows: Sequence[tuple[int, str, int]], now: Any) -> None:
        cursor.execute(
            "UPDATE bus_stream SET state = ended.state, end_seq = ended.end_seq, ended_at = %s FROM"
            " (SELECT value ->> 0 AS id, value ->> 1 AS state, value ->> 2 AS end_seq FROM json_each(%s)) AS ended"
            " WHERE bus_stream.id = ended.id",
            (now, json_text(rows)),
        )
        ids = json_text([row[0] for row in rows])
        for table in ("bus_streampart", "bus_streamsteer"):
            cursor.execute(f"DELETE FROM {table} WHERE stream_id IN (SELECT value FROM json_each(%s))", (ids,))

    def insert_parts(self, cursor: Any, rows: Sequence[tuple[int, int, int, str]]) -> None:
        _insert(cursor, "bus_streampart (stream_id, first, n, data)", rows)

    def take_loose(self, cursor: Any, stream_id: int, merged: int) -> list[bytes]:
        cursor.execute(
            "SELECT json_group_array(json_array(n, data)) FROM bus_streampart WHERE stream_id = %s AND n > %s",
            (stream_id, merged),
        )
        rows = sorted(msgspec.json.decode(cursor.fetchone()[0]))
        cursor.execute("DELETE FROM bus_streampart WHERE stream_id = %s AND n > %s", (stream_id, merged))
        return [data.encode() for _, data in rows]

    def insert_steers(self, cursor: Any, rows: Sequence[tuple[int, str, int]]) -> None:
        _insert(cursor, "bus_streamsteer (stream_id, uid, seq)", rows)

    def take_steers(self, cursor: Any, rows: Sequence[tuple[int, int]]) -> None:
        cursor.execute(
            "DELETE FROM bus_streamsteer WHERE (stream_id, seq) IN"
            " (SELECT value ->> 0, value ->> 1 FROM json_each(%s))",
            (json_text(rows),),
        )


class PostgresqlStreams:
    """PostgreSQL, through psycopg 3."""

    def lock(
        self, cursor: Any, uids: Sequence[str], *, patience: float | None = None, pass_over: bool = False
    ) -> list[Sequence[Any]]:
        wait = "" if patience is None else " AND set_config('lock_timeout', %s, true) IS NOT NULL"
        limit = () if patience is None else (str(max(1, round(patience * 1000))),)
        cursor.execute(
            f"SELECT {_COLUMNS} FROM bus_stream WHERE uid = ANY(%s){wait}"
            f" ORDER BY id FOR NO KEY UPDATE{' SKIP LOCKED' if pass_over else ''}",
            (list(uids), *limit),
        )
        rows: list[Sequence[Any]] = cursor.fetchall()
        return rows

    def existing(self, cursor: Any, uids: Sequence[str]) -> set[str]:
        cursor.execute("SELECT uid FROM bus_stream WHERE uid = ANY(%s)", (list(uids),))
        return {row[0] for row in cursor.fetchall()}

    def count_open(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        cursor.execute(
            "SELECT client_id, count(*) FROM bus_stream WHERE state = 'open' AND client_id = ANY(%s) GROUP BY client_id",
            (list(client_ids),),
        )
        return dict(cursor.fetchall())

    def contents(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[bytes]]:
        cursor.execute(
            "SELECT stream_id, data FROM bus_streampart WHERE stream_id = ANY(%s) ORDER BY stream_id, n", (list(ids),)
        )
        return _by_stream((stream_id, data.encode()) for stream_id, data in cursor.fetchall())

    def steers(self, cursor: Any, ids: Sequence[int]) -> dict[int, list[tuple[int, str]]]:
        cursor.execute(
            "SELECT stream_id, seq, uid FROM bus_streamsteer WHERE stream_id = ANY(%s) ORDER BY stream_id, seq",
            (list(ids),),
        )
        return _by_stream((stream_id, (seq, uid)) for stream_id, seq, uid in cursor.fetchall())

    def snapshots(self, cursor: Any, ids: Sequence[int]) -> list[tuple[Sequence[Any], list[bytes]]]:
        cursor.execute(
            f"SELECT {_COLUMNS}, (SELECT array_agg(data ORDER BY n) FROM bus_streampart WHERE stream_id = bus_stream.id)"
            " FROM bus_stream WHERE id = ANY(%s)",
            (list(ids),),
        )
        return [(row[:-1], [data.encode() for data in row[-1] or ()]) for row in cursor.fetchall()]

    def insert(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> dict[str, int]:
        cursor.execute(
            f"INSERT INTO bus_stream ({_NEW}) SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::text[],"
            " %s::text[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bool[], %s::int[], %s::text[],"
            " %s::int[], %s::bigint[], %s::int[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])"
            " RETURNING uid, id",
            _columns(rows),
        )
        return dict(cursor.fetchall())

    def update(self, cursor: Any, rows: Sequence[tuple[int, ...]], now: Any) -> None:
        cursor.execute(
            "UPDATE bus_stream SET have = moved.have, bytes = moved.bytes, steers = moved.steers, loose = moved.loose,"
            " merged = moved.merged, touched_at = %s"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::int[], %s::bigint[])"
            " AS moved(id, have, bytes, steers, loose, merged) WHERE bus_stream.id = moved.id",
            (now, *_columns(rows)),
        )

    def end(self, cursor: Any, rows: Sequence[tuple[int, str, int]], now: Any) -> None:
        cursor.execute(
            "UPDATE bus_stream SET state = ended.state, end_seq = ended.end_seq, ended_at = %s"
            " FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS ended(id, state, end_seq)"
            " WHERE bus_stream.id = ended.id",
            (now, *_columns(rows)),
        )
        ids = [row[0] for row in rows]
        for table in ("bus_streampart", "bus_streamsteer"):
            cursor.execute(f"DELETE FROM {table} WHERE stream_id = ANY(%s)", (ids,))

    def insert_parts(self, cursor: Any, rows: Sequence[tuple[int, int, int, str]]) -> None:
        cursor.execute(
            "INSERT INTO bus_streampart (stream_id, first, n, data)"
            " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[])",
            _columns(rows),
        )

    def take_loose(self, cursor: Any, stream_id: int, merged: int) -> list[bytes]:
        cursor.execute(
            "DELETE FROM bus_streampart WHERE stream_id = %s AND n > %s RETURNING n, data", (stream_id, merged)
        )
        return [data.encode() for _, data in sorted(cursor.fetchall())]

    def insert_steers(self, cursor: Any, rows: Sequence[tuple[int, str, int]]) -> None:
        cursor.execute(
            "INSERT INTO bus_streamsteer (stream_id, uid, seq)"
            " SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[])",
            _columns(rows),
        )

    def take_steers(self, cursor: Any, rows: Sequence[tuple[int, int]]) -> None:
        cursor.execute(
            "DELETE FROM bus_streamsteer USING unnest(%s::bigint[], %s::bigint[]) AS taken(stream_id, seq)"
            " WHERE bus_streamsteer.stream_id = taken.stream_id AND bus_streamsteer.seq = taken.seq",
            _columns(rows),
        )


STREAMS_OF_VENDOR: dict[str, StreamStatements] = {"postgresql": PostgresqlStreams(), "sqlite": SqliteStreams()}


def _one(cursor: Any, statement: str, argument: str) -> list[Any]:
    """Return the rows of a SQLite statement that answers with one JSON list."""
    cursor.execute(statement, (argument,))
    rows: list[Any] = msgspec.json.decode(cursor.fetchone()[0])
    return rows


def _by_stream(rows: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = {}
    for stream_id, value in rows:
        found.setdefault(stream_id, []).append(value)
    return found


def _insert(cursor: Any, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    for part in in_powers_of_two(rows):
        values = ",".join([f"({','.join(['%s'] * len(part[0]))})"] * len(part))
        cursor.execute(f"INSERT INTO {into} VALUES {values}", [value for row in part for value in row])


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))
