"""The SQL statements of ``append_batch``, one class per database.

SQLite needs as few steps as possible. Each step of a statement releases the interpreter's lock, and a busy event loop may
hold it for a switch interval each time. With one row per step, a batch of 200 waited for 200 intervals. So rows are
inserted by the hundred, in a few sizes. That keeps the number of prepared statements small. Answers come as one JSON value.

PostgreSQL locks the channel rows in the order of their ids, so that two processes never deadlock. Arrays carry the rows
of one statement. The log's writer limits how long it waits for a lock. The statement that locks also sets that limit,
which holds until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from django.db import NotSupportedError


class Statements(Protocol):
    """The statements of ``append_batch``. ``cursor`` is the database's own cursor, without Django's wrappers."""

    def cursor(self, wrapper: Any) -> Any:
        """Return the database's own cursor of Django's connection ``wrapper``, which must be connected."""
        ...

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

    def insert_messages(self, cursor: Any, values: list[Any]) -> None:
        """Insert rows of ``channel_id, seq, uid, type, sender, created_at, frame``. ``values`` has one row after another."""
        ...

    def insert_keys(self, cursor: Any, values: list[Any]) -> None:
        """Insert rows of ``key, channel_id, seq, created_at``. ``values`` has one row after another."""
        ...


class SqliteStatements:
    """SQLite 3.38 or newer. The transaction is IMMEDIATE, so it already holds the lock on everything that it reads."""

    def cursor(self, wrapper: Any) -> Any:
        return wrapper.connection.cursor()

    def lock_heads(
        self, cursor: Any, channel_ids: Sequence[int], *, patience: float | None = None, pass_over: bool = False
    ) -> dict[int, tuple[int, str, bool]]:
        if len(channel_ids) == 1:
            cursor.execute("SELECT id, head, epoch, work IS NOT NULL FROM bus_channel WHERE id = ?", channel_ids)
            rows = cursor.fetchall()
        else:
            cursor.execute(
                "SELECT json_group_array(json_array(id, head, epoch, work IS NOT NULL)) FROM bus_channel"
                " WHERE id IN (SELECT value FROM json_each(?))",
                (json_text(channel_ids),),
            )
            rows = msgspec.json.decode(cursor.fetchone()[0])
        return {row[0]: (row[1], row[2], bool(row[3])) for row in rows}

    def find_keys(self, cursor: Any, keys: Sequence[str], since: Any) -> dict[str, tuple[int, int]]:
        cursor.execute(
            "SELECT json_group_array(json_array(key, channel_id, seq, created_at >= ?)) FROM bus_publishkey"
            " WHERE key IN (SELECT value FROM json_each(?))",
            (since, json_text(keys)),
        )
        rows = msgspec.json.decode(cursor.fetchone()[0])
        expired = [row[0] for row in rows if not row[3]]
        if expired:
            cursor.execute(
                "DELETE FROM bus_publishkey WHERE key IN (SELECT value FROM json_each(?))", (json_text(expired),)
            )
        return {key: (channel_id, seq) for key, channel_id, seq, fresh in rows if fresh}

    def move_heads(self, cursor: Any, heads: Sequence[tuple[int, int]], now: Any) -> None:
        if len(heads) == 1:
            cursor.execute(
                "UPDATE bus_channel SET head = ?, touched_at = ? WHERE id = ?",
                (heads[0][1], now, heads[0][0]),
            )
            return
        cursor.execute(
            "UPDATE bus_channel SET head = moved.head, touched_at = ? FROM"
            " (SELECT value ->> 0 AS id, value ->> 1 AS head FROM json_each(?)) AS moved WHERE bus_channel.id = moved.id",
            (now, json_text(heads)),
        )

    def insert_messages(self, cursor: Any, values: list[Any]) -> None:
        _insert(cursor, _MESSAGES, values)

    def insert_keys(self, cursor: Any, values: list[Any]) -> None:
        _insert(cursor, _KEYS, values)


class PostgresqlStatements:
    """PostgreSQL, through psycopg 3."""

    def cursor(self, wrapper: Any) -> Any:
        return wrapper.create_cursor()

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
        cursor.execute(
            "SELECT key, channel_id, seq, created_at >= %s FROM bus_publishkey WHERE key = ANY(%s)", (since, list(keys))
        )
        rows = cursor.fetchall()
        expired = [row[0] for row in rows if not row[3]]
        if expired:
            cursor.execute("DELETE FROM bus_publishkey WHERE key = ANY(%s) AND created_at < %s", (expired, since))
        return {key: (channel_id, seq) for key, channel_id, seq, fresh in rows if fresh}

    def move_heads(self, cursor: Any, heads: Sequence[tuple[int, int]], now: Any) -> None:
        cursor.execute(
            "UPDATE bus_channel SET head = moved.head, touched_at = %s"
            " FROM unnest(%s::bigint[], %s::bigint[]) AS moved(id, head) WHERE bus_channel.id = moved.id",
            (now, [row[0] for row in heads], [row[1] for row in heads]),
        )

    def insert_messages(self, cursor: Any, values: list[Any]) -> None:
        cursor.execute(
            "INSERT INTO bus_message (channel_id, seq, uid, type, sender, created_at, frame)"
            " SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[], %s::text[])",
            [values[column::7] for column in range(7)],
        )

    def insert_keys(self, cursor: Any, values: list[Any]) -> None:
        cursor.execute(
            "INSERT INTO bus_publishkey (key, channel_id, seq, created_at)"
            " SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::timestamptz[])",
            [values[column::4] for column in range(4)],
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


#: The rows of one statement, largest first. Any batch takes few statements, and a small one takes one.
_SIZES = (512, 384, 256, 192, 128, 96, 64, 48, 32, 24, *range(16, 0, -1))


def _texts(table: str, columns: str) -> dict[int, str]:
    """Return the statement that inserts rows into a table of SQLite, for each of :data:`_SIZES`.

    The texts are made once: SQLite's module finds a prepared statement by its text.
    """
    row = f"({','.join('?' * len(columns.split(',')))})"
    return {size: f"INSERT INTO {table} ({columns}) VALUES {','.join([row] * size)}" for size in _SIZES}


_MESSAGES = _texts("bus_message", "channel_id, seq, uid, type, sender, created_at, frame")
_KEYS = _texts("bus_publishkey", "key, channel_id, seq, created_at")


def _insert(cursor: Any, texts: Mapping[int, str], values: list[Any]) -> None:
    """Insert rows into a table of SQLite. ``values`` has one row after another."""
    width = texts[1].count("?")
    left = len(values) // width
    if left in texts:
        cursor.execute(texts[left], values)
        return
    position = 0
    for size in _SIZES:
        while left >= size:
            end = position + size * width
            cursor.execute(texts[size], values[position:end])
            position, left = end, left - size


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
