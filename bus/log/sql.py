"""The SQL statements of ``append_batch``, one class per database.

SQLite needs as few steps as possible. Each step of a statement releases the interpreter's lock, and a busy event loop may
hold it for a switch interval each time. With one row per step, a batch of 200 waited for 200 intervals. So rows are
inserted by the hundred, in sizes that are powers of two. That keeps the number of prepared statements small. Answers come
as one JSON value.

PostgreSQL locks the channel rows in the order of their ids, so that two processes never deadlock. Arrays carry the rows
of one statement. The log's writer limits how long it waits for a lock. The statement that locks also sets that limit,
which holds until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
from django.db import NotSupportedError


class Statements(Protocol):
    """The statements of ``append_batch``. ``cursor`` is the database's own cursor, without Django's wrappers."""

    def lock_heads(
        self, cursor: Any, channel_ids: Sequence[int], *, patience: float | None = None, pass_over: bool = False
    ) -> dict[int, tuple[int, str, bool]]:
        """Lock the channels' rows. Return ``{id: (head, epoch, whether it is a work channel)}`` of those that exist.

        ``patience`` is how many seconds to wait for any lock of the transaction (None: as the database is configured).
        With ``pass_over``, rows that other transactions have locked are left out.
        """
        ...

    def find_keys(self, cursor: Any, keys: Sequence[str], since: Any) -> dict[str, tuple[int, int]]:
        """Return the channel id and the seq of each key used since then. Remove older ones of the keys."""
        ...

    def move_heads(self, cursor: Any, heads: Sequence[tuple[int, int]], now: Any) -> None:
        """Set the new ``(id, head)`` of each channel, and the time at which it moved."""
        ...

    def insert_messages(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of ``(channel_id, seq, uid, type, sender, created_at, frame)``."""
        ...

    def insert_keys(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of ``(key, channel_id, seq, created_at)``."""
        ...


class SqliteStatements:
    """SQLite 3.38 or newer. The transaction is IMMEDIATE, so it already holds the lock on everything that it reads."""

    def lock_heads(
        self, cursor: Any, channel_ids: Sequence[int], *, patience: float | None = None, pass_over: bool = False
    ) -> dict[int, tuple[int, str, bool]]:
        cursor.execute(
            "SELECT json_group_array(json_array(id, head, epoch, work IS NOT NULL)) FROM bus_channel"
            " WHERE id IN (SELECT value FROM json_each(%s))",
            (json_text(channel_ids),),
        )
        return {row[0]: (row[1], row[2], bool(row[3])) for row in msgspec.json.decode(cursor.fetchone()[0])}

    def find_keys(self, cursor: Any, keys: Sequence[str], since: Any) -> dict[str, tuple[int, int]]:
        cursor.execute(
            "SELECT json_group_array(json_array(key, channel_id, seq, created_at >= %s)) FROM bus_publishkey"
            " WHERE key IN (SELECT value FROM json_each(%s))",
            (since, json_text(keys)),
        )
        rows = msgspec.json.decode(cursor.fetchone()[0])
        expired = [row[0] for row in rows if not row[3]]
        if expired:
            cursor.execute(
                "DELETE FROM bus_publishkey WHERE key IN (SELECT value FROM json_each(%s))", (json_text(expired),)
            )
        return {key: (channel_id, seq) for key, channel_id, seq, fresh in rows if fresh}

    def move_heads(self, cursor: Any, heads: Sequence[tuple[int, int]], now: Any) -> None:
        if len(heads) == 1:
            cursor.execute(
                "UPDATE bus_channel SET head = %s, touched_at = %s WHERE id = %s",
                (heads[0][1], now, heads[0][0]),
            )
            return
        cursor.execute(
            "UPDATE bus_channel SET head = moved.head, touched_at = %s FROM"
            " (SELECT value ->> 0 AS id, value ->> 1 AS head FROM json_each(%s)) AS moved WHERE bus_channel.id = moved.id",
            (now, json_text(heads)),
        )

    def insert_messages(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        for part in in_powers_of_two(rows):
            values = ",".join(["(%s,%s,%s,%s,%s,%s,%s)"] * len(part))
            cursor.execute(
                f"INSERT INTO bus_message (channel_id, seq, uid, type, sender, created_at, frame) VALUES {values}",
                [value for row in part for value in row],
            )

    def insert_keys(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        for part in in_powers_of_two(rows):
            values = ",".join(["(%s,%s,%s,%s)"] * len(part))
            cursor.execute(
                f"INSERT INTO bus_publishkey (key, channel_id, seq, created_at) VALUES {values}",
                [value for row in part for value in row],
            )


class PostgresqlStatements:
    """PostgreSQL, through psycopg 3."""

    def lock_heads(
        self, cursor: Any, channel_ids: Sequence[int], *, patience: float | None = None, pass_over: bool = False
    ) -> dict[int, tuple[int, str, bool]]:
        lock = "FOR NO KEY UPDATE OF bus_channel SKIP LOCKED" if pass_over else "FOR NO KEY UPDATE OF bus_channel"
        if patience is None:
            cursor.execute(
                f"SELECT id, head, epoch, work IS NOT NULL FROM bus_channel WHERE id = ANY(%s) ORDER BY id {lock}",
                (list(channel_ids),),
            )
        else:
            # PostgreSQL filters rows before it locks them, so the setting already holds for the first lock.
            cursor.execute(
                "SELECT id, head, epoch, work IS NOT NULL FROM bus_channel WHERE id = ANY(%s)"
                f" AND set_config('lock_timeout', %s, true) IS NOT NULL ORDER BY id {lock}",
                (list(channel_ids), str(max(1, round(patience * 1000)))),
            )
        return {row[0]: (row[1], row[2], row[3]) for row in cursor.fetchall()}

    def find_keys(self, cursor: Any, keys: Sequence[str], since: Any) -> dict[str, tuple[int, int]]:
        cursor.execute("DELETE FROM bus_publishkey WHERE key = ANY(%s) AND created_at < %s", (list(keys), since))
        cursor.execute("SELECT key, channel_id, seq FROM bus_publishkey WHERE key = ANY(%s)", (list(keys),))
        return {key: (channel_id, seq) for key, channel_id, seq in cursor.fetchall()}

    def move_heads(self, cursor: Any, heads: Sequence[tuple[int, int]], now: Any) -> None:
        cursor.execute(
            "UPDATE bus_channel SET head = moved.head, touched_at = %s"
            " FROM unnest(%s::bigint[], %s::bigint[]) AS moved(id, head) WHERE bus_channel.id = moved.id",
            (now, [row[0] for row in heads], [row[1] for row in heads]),
        )

    def insert_messages(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = list(map(list, zip(*rows, strict=True)))
        cursor.execute(
            "INSERT INTO bus_message (channel_id, seq, uid, type, sender, created_at, frame)"
            " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[], %s::text[])",
            columns,
        )

    def insert_keys(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = list(map(list, zip(*rows, strict=True)))
        cursor.execute(
            "INSERT INTO bus_publishkey (key, channel_id, seq, created_at)"
            " SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[])",
            columns,
        )


def for_vendor(vendor: str) -> Statements:
    """Return the statements for Django's name of a database.

    Raises ``NotSupportedError`` for a database whose SQL the bus does not have.
    """
    try:
        return _OF_VENDOR[vendor]
    except KeyError:
        raise NotSupportedError(f"The bus needs PostgreSQL or SQLite for its log, and not {vendor}.") from None


_OF_VENDOR: dict[str, Statements] = {"postgresql": PostgresqlStatements(), "sqlite": SqliteStatements()}


def json_text(value: Any) -> str:
    """Return a value as JSON text."""
    return msgspec.json.encode(value).decode()


def in_powers_of_two(rows: Sequence[Any], largest: int = 256) -> Iterator[Sequence[Any]]:
    """Yield the rows in slices, each with a power of two of them."""
    position, size = 0, largest
    while position < len(rows):
        while size > len(rows) - position:
            size //= 2
        yield rows[position : position + size]
        position += size
