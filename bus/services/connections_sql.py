"""The SQL of connections that come: what is known of them, the rows of newcomers, and the members of channels.

Newcomers of one transaction are one statement, and so are their memberships. Everything here runs on the database's own
connection, without Django's wrappers: with DEBUG they would format and keep every statement.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec
from django.db import connection

from ..log import Position
from ..log.sql import in_powers_of_two, json_text
from ..protocol.names import INBOX_ROOM

#: The columns of a newcomer that differ from one to the next, with their types in PostgreSQL.
COLUMNS = {
    "client_id": "text",
    "client_type": "text",
    "screen_name": "text",
    "avatar": "text",
    "personality": "text",
    "card": "text",
    "role": "text",
    "principal": "text",
    "generated": "bool",
    "node_id": "text",
    "connection_id": "text",
    "resume_digest": "text",
    "inbox_floor": "bigint",
    "inbox_epoch": "text",
    "last_activity": "timestamptz",
}
#: The columns that are the same for all newcomers, besides ``proven_since`` and ``connected_at``: it is their first claim.
_SAME = {"claims": "1", "marked": "false", "disconnected_at": "NULL", "status": "NULL", "status_until": "NULL"}
_INTO = f"INSERT INTO bus_client ({', '.join(COLUMNS)}, {', '.join(_SAME)}, proven_since, connected_at)"
#: The columns that are JSON. An array of JSON would need a wrapper for each value, so it goes as text.
_JSON = frozenset({"personality", "card"})
_ACTIVITY = tuple(COLUMNS).index("last_activity")
#: The name of the total that counts claims (``services.totals``).
_TOTAL = "connections"
_COUNT = "INSERT INTO bus_counter (name, value) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET value = bus_counter.value + %s"


class Known(NamedTuple):
    """Which of the client ids have a row, and the positions of the inboxes by client id."""

    client_ids: set[str]
    inboxes: dict[str, Position]


class Statements(Protocol):
    """The statements of one database. A transaction is open."""

    def look(self, client_ids: Sequence[str], with_inboxes: Sequence[str]) -> Known:
        """Return which clients have rows, and the inboxes that there are of ``with_inboxes``. Nothing is locked."""
        ...

    def insert(self, rows: Sequence[tuple[Any, ...]], now: datetime) -> dict[str, int]:
        """Insert rows of :data:`COLUMNS`. Return their keys by client id, without those that another process inserted."""
        ...

    def place(self, members: Sequence[tuple[int, int]], now: datetime) -> None:
        """Insert memberships of (client's key, channel's key), each unless it is there, and count them as connections."""
        ...

    def free(self, channel_ids: Collection[int]) -> dict[int, Position]:
        """Return the positions of the channels that a new row may refer to, without those that another transaction holds."""
        ...

    def participants(self, channel_ids: Collection[int]) -> dict[int, int]:
        """Return the number of connected members of each channel.

        A member without a connection stands in for itself while its status lasts (``services.statuses``). It is no
        participant. A join with all clients would touch every row of a large channel.
        """
        ...


class _Sqlite:
    def look(self, client_ids: Sequence[str], with_inboxes: Sequence[str]) -> Known:
        found = self._one(
            "SELECT json_array("
            "(SELECT json_group_array(client_id) FROM bus_client WHERE client_id IN (SELECT value FROM json_each(?))),"
            "(SELECT json_group_array(json_array(name, id, head, epoch)) FROM bus_channel"
            " WHERE room_id = (SELECT id FROM bus_room WHERE name = ?) AND name IN (SELECT value FROM json_each(?))))",
            (json_text(client_ids), INBOX_ROOM, json_text(with_inboxes)),
        )
        return Known(set(found[0]), {name: Position(*place) for name, *place in found[1]})

    def insert(self, rows: Sequence[tuple[Any, ...]], now: datetime) -> dict[str, int]:
        moment = _moment(now)
        for part in in_powers_of_two(rows):
            values: list[Any] = [moment]
            for row in part:
                values += row[:_ACTIVITY]
                values.append(_moment(row[_ACTIVITY]))
            self._execute(_newcomers(len(part)), values)
        return dict(
            self._one(
                "SELECT json_group_array(json_array(client_id, id)) FROM bus_client"
                " WHERE client_id IN (SELECT value FROM json_each(?))",
                (json_text([row[0] for row in rows]),),
            )
        )

    def place(self, members: Sequence[tuple[int, int]], now: datetime) -> None:
        self._execute(
            "INSERT INTO bus_membership (client_id, channel_id, joined_at)"
            " SELECT value ->> 0, value ->> 1, ? FROM json_each(?) WHERE true ON CONFLICT DO NOTHING",
            (_moment(now), json_text(members)),
        )
        self._execute(_COUNT.replace("%s", "?"), (_TOTAL, len(members), len(members)))

    def free(self, channel_ids: Collection[int]) -> dict[int, Position]:
        found = self._one(
            "SELECT json_group_array(json_array(id, head, epoch)) FROM bus_channel"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json_text(list(channel_ids)),),
        )
        return {row[0]: Position(*row) for row in found}

    def participants(self, channel_ids: Collection[int]) -> dict[int, int]:
        return dict(self._one(_SQLITE_PARTICIPANTS, (json_text(list(channel_ids)),)))

    @staticmethod
    def _execute(statement: str, values: Sequence[Any]) -> Any:
        with connection.wrap_database_errors:
            return connection.connection.execute(statement, values)

    @staticmethod
    def _one(statement: str, values: Sequence[Any]) -> Any:
        """Return the JSON value that a statement answers: one row is one step, which releases the interpreter's lock."""
        with connection.wrap_database_errors:
            row = connection.connection.execute(statement, values).fetchone()
        return msgspec.json.decode(row[0])


#: Members of the channel that is ``there.value``.
_SQLITE_PARTICIPANTS = (
    "SELECT json_group_array(json_array(there.value,"
    " (SELECT count(*) FROM bus_membership WHERE channel_id = there.value)"
    " - (SELECT count(*) FROM bus_client AS standing JOIN bus_membership AS place ON place.client_id = standing.id"
    " WHERE standing.status_until IS NOT NULL AND standing.node_id IS NULL AND place.channel_id = there.value)))"
    " FROM json_each(?) AS there"
)


@lru_cache
def _newcomers(number: int) -> str:
    """Return SQLite's statement for a number of newcomers. Its first value is the time, which stands in each row."""
    width = len(COLUMNS)
    rows = []
    for row in range(number):
        places = ",".join(f"?{2 + row * width + place}" for place in range(width))
        rows.append(f"({places},{','.join(_SAME.values())},?1,?1)")
    return f"{_INTO} VALUES {','.join(rows)}"


def _moment(moment: datetime) -> str:
    """Return a time as SQLite keeps it."""
    if moment.tzinfo is UTC and connection.timezone is UTC:
        return str(moment.replace(tzinfo=None))
    return str(connection.ops.adapt_datetimefield_value(moment))


class _Postgresql:
    def look(self, client_ids: Sequence[str], with_inboxes: Sequence[str]) -> Known:
        rows = self._all(
            "SELECT client_id, NULL, NULL, NULL FROM bus_client WHERE client_id = ANY(%s) UNION ALL"
            " SELECT name, id, head, epoch FROM bus_channel"
            " WHERE room_id = (SELECT id FROM bus_room WHERE name = %s) AND name = ANY(%s)",
            (list(client_ids), INBOX_ROOM, list(with_inboxes)),
        )
        inboxes = {name: Position(*place) for name, *place in rows if place[0] is not None}
        return Known({row[0] for row in rows if row[1] is None}, inboxes)

    def insert(self, rows: Sequence[tuple[Any, ...]], now: datetime) -> dict[str, int]:
        # All processes insert in one order, so that two with the same ids never wait for each other in a circle.
        columns = list(map(list, zip(*sorted(rows, key=lambda row: str(row[0])), strict=True)))
        return dict(self._all(_POSTGRESQL_NEWCOMERS, [now, now, *columns]))

    def place(self, members: Sequence[tuple[int, int]], now: datetime) -> None:
        self._execute(
            "INSERT INTO bus_membership (client_id, channel_id, joined_at)"
            " SELECT client_id, channel_id, %s FROM unnest(%s::bigint[], %s::bigint[]) AS new(client_id, channel_id)"
            " ON CONFLICT DO NOTHING",
            (now, [member[0] for member in members], [member[1] for member in members]),
        )
        self._execute(_COUNT, (_TOTAL, len(members), len(members)))

    def free(self, channel_ids: Collection[int]) -> dict[int, Position]:
        rows = self._all(
            "SELECT id, head, epoch FROM bus_channel WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE SKIP LOCKED",
            (list(channel_ids),),
        )
        return {row[0]: Position(*row) for row in rows}

    def participants(self, channel_ids: Collection[int]) -> dict[int, int]:
        return dict(self._all(_POSTGRESQL_PARTICIPANTS, (list(channel_ids),)))

    def _all(self, statement: str, values: Sequence[Any]) -> list[Any]:
        with connection.wrap_database_errors, connection.cursor() as wrapper:
            return list(wrapper.cursor.execute(statement, values).fetchall())

    @staticmethod
    def _execute(statement: str, values: Sequence[Any]) -> None:
        with connection.wrap_database_errors, connection.cursor() as wrapper:
            wrapper.cursor.execute(statement, values)


_POSTGRESQL_NEWCOMERS = (
    f"{_INTO} SELECT {', '.join(f'{name}::jsonb' if name in _JSON else name for name in COLUMNS)},"
    f" {', '.join(_SAME.values())}, %s, %s"
    f" FROM unnest({', '.join(f'%s::{kind}[]' for kind in COLUMNS.values())}) AS new({', '.join(COLUMNS)})"
    " ON CONFLICT (client_id) DO NOTHING RETURNING client_id, id"
)
_POSTGRESQL_PARTICIPANTS = (
    "SELECT there.id, (SELECT count(*) FROM bus_membership WHERE channel_id = there.id)"
    " - (SELECT count(*) FROM bus_client AS standing JOIN bus_membership AS place ON place.client_id = standing.id"
    " WHERE standing.status_until IS NOT NULL AND standing.node_id IS NULL AND place.channel_id = there.id)"
    " FROM unnest(%s::bigint[]) AS there(id)"
)

_OF_VENDOR: dict[str, Statements] = {"sqlite": _Sqlite(), "postgresql": _Postgresql()}


def statements() -> Statements:
    """Return the statements of the database in use. They raise Django's errors."""
    connection.ensure_connection()
    return _OF_VENDOR[connection.vendor]
