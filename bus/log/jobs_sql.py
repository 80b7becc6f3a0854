"""The SQL statements for jobs, one class per database, in the manner of ``log.sql``.

PostgreSQL takes the times of jobs from its own clock, because the clocks of the servers differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from django.db import connection
from django.utils import timezone

from ..models import Job
from .sql import in_powers_of_two, json_text

#: What changes in the life of a job, after its id. The types are those of PostgreSQL.
CHANGING = {
    "state": "text",
    "due_at": "timestamptz",
    "attempt": "int",
    "claims": "int",
    "client_id": "text",
    "principal": "text",
    "rest": "bool",
    "claimed_at": "timestamptz",
    "lease_until": "timestamptz",
    "hold_until": "timestamptz",
    "gone_at": "timestamptz",
    "ended_at": "timestamptz",
    "errors": "jsonb",
    "result": "text",
    "last_reason": "text",
}

_READY = (
    "SELECT id, (SELECT count(*) FROM (SELECT 1 FROM bus_job WHERE channel_id = bus_channel.id AND state = 'ready'"
    " AND due_at <= %s LIMIT %s) AS due) FROM bus_channel"
)


class JobStatements(Protocol):
    """The statements for jobs. ``cursor`` is the database's own cursor."""

    def now(self, cursor: Any, patience: float | None) -> datetime:
        """Return the time of the clock that all jobs go by.

        ``patience`` is how many seconds the transaction waits for any lock (None: as the database is configured).
        """
        ...

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, int, bool, Any]], now: Any) -> None:
        """Insert ready jobs as ``(channel_id, seq, uid, size, asked, due_at)``. Those without a ``due_at`` are due at once."""
        ...

    def update(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write jobs: rows of the id and of the columns in :data:`CHANGING`."""
        ...

    def ready(self, cursor: Any, channel_ids: Sequence[int], most: int) -> dict[int, int]:
        """Return how many jobs of each work channel are ready and due, counted up to ``most``."""
        ...

    def look(self, cursor: Any, wanted: Wanted, patience: float) -> Look:
        """Read what a transaction needs, and lock the rows of jobs: those of ``wanted.keys``, and those that are due.

        ``patience`` is how many seconds the transaction waits for any lock (PostgreSQL).
        """
        ...


class Wanted(NamedTuple):
    """What a transaction needs to know: the jobs ``keys``, how many jobs the clients ``names`` have, and jobs to claim.

    ``due`` says how many ready jobs of which channels are wanted at most. Those left over are counted up to ``counted``. ``size``
    is how many bytes of messages the claims of a channel can get. ``connected`` are anonymous clients, whose connections count.
    """

    keys: Sequence[int]
    names: Sequence[str]
    due: Mapping[int, int]
    counted: int
    size: int
    connected: Sequence[str] = ()


class Look(NamedTuple):
    """What a transaction knows.

    ``now`` is the time of the clock that all jobs go by. ``jobs`` are locked, in the order of their ids. ``held`` are the
    numbers of claimed jobs of clients that have any. ``due`` are the oldest ready jobs of each channel that nobody has locked.
    Each comes with its message's frame, with None where somebody deleted the message itself, or with an empty one beyond
    ``wanted.size``. ``ready`` are the numbers of ready jobs, including those in ``due``. ``connections`` has the connection of
    each client in ``wanted.connected``, whose row is locked.
    """

    now: datetime
    jobs: list[Job]
    held: dict[str, int]
    due: dict[int, list[tuple[Job, str | None]]]
    ready: dict[int, int]
    connections: dict[str, str]


# `clock_timestamp()` is volatile, so no index answers a comparison with it: each claim would read all delayed jobs.
_NOW = "SELECT statement_timestamp() FROM set_config('lock_timeout', %s, true)"
_READY_NOW = f"{_READY} WHERE id = ANY(%s) AND work IS NOT NULL".replace("%s", "statement_timestamp()", 1)
_SQLITE_LIST = "SELECT value FROM json_each(%s)"
#: The columns of a job, in the order of the model's fields.
_FIELDS = tuple(field.attname for field in Job._meta.concrete_fields)
_COLUMNS = ", ".join(f"bus_job.{name}" for name in _FIELDS)
_LOCK = f"SELECT {_COLUMNS} FROM bus_job WHERE id IN ({{keys}}) ORDER BY id"
# The frames are as large as frames may be, so only those that the claims can get are read.
_DUE = (
    f"WITH bus_due AS (SELECT {_COLUMNS} FROM bus_job WHERE channel_id = %s AND state = 'ready' AND due_at <= {{now}}"
    " ORDER BY due_at, id LIMIT %s {lock})"
    f" SELECT {', '.join(f'bus_due.{name}' for name in _FIELDS)}, CASE WHEN bus_message.id IS NULL THEN NULL"
    " WHEN sum(bus_due.size) OVER (ORDER BY bus_due.due_at, bus_due.id) - bus_due.size < %s THEN bus_message.frame"
    " ELSE '' END FROM bus_due LEFT JOIN bus_message"
    " ON bus_message.channel_id = bus_due.channel_id AND bus_message.seq = bus_due.seq"
    " ORDER BY bus_due.due_at, bus_due.id"
)
_HELD = "SELECT client_id, count(*) FROM bus_job WHERE state = 'claimed' AND client_id IN ({names}) GROUP BY client_id"
# Who takes an id locks the row of the client, and then takes the jobs from it.
_CONNECTED = (
    "SELECT client_id, connection_id FROM bus_client WHERE client_id IN ({names}) AND principal = '' ORDER BY id"
)
_ERRORS = _FIELDS.index("errors")
_MOMENTS = tuple(_FIELDS.index(name) for name, kind in CHANGING.items() if kind == "timestamptz")


def _job(row: Sequence[Any]) -> Job:
    """Return the job of a row with the columns of the model. The ORM would take longer to build the query than to run it."""
    values = list(row)
    values[_ERRORS] = [] if values[_ERRORS] == "[]" else json.loads(values[_ERRORS])
    return Job.from_db("default", _FIELDS, values)


def _sqlite_job(row: Sequence[Any]) -> Job:
    """As :func:`_job`, with a zone for the times, which are without one in SQLite."""
    values = list(row)
    for place in _MOMENTS:
        if values[place] is not None:
            values[place] = values[place].replace(tzinfo=UTC)
    return _job(values)


class SqliteJobs:
    """SQLite. There is one machine, so its clock is everybody's."""

    def now(self, cursor: Any, patience: float | None) -> datetime:
        return timezone.now()

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, int, bool, Any]], now: Any) -> None:
        for part in in_powers_of_two(rows):
            values = ",".join(
                ["(%s,%s,%s,%s,%s,'ready',coalesce(%s,%s),0,0,'','',0,NULL,NULL,NULL,NULL,NULL,'[]','','')"] * len(part)
            )
            cursor.execute(
                f"INSERT INTO bus_job (channel_id, seq, uid, size, asked, {', '.join(CHANGING)}) VALUES {values}",
                [value for row in part for value in (*row, now)],
            )

    def update(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        places = [f"{name} = changed.value ->> {place}" for place, name in enumerate(CHANGING, start=1)]
        cursor.execute(
            f"UPDATE bus_job SET {', '.join(places)}"
            " FROM json_each(%s) AS changed WHERE bus_job.id = changed.value ->> 0",
            (json_text(rows),),
        )

    def ready(self, cursor: Any, channel_ids: Sequence[int], most: int) -> dict[int, int]:
        cursor.execute(
            f"{_READY} WHERE id IN (SELECT value FROM json_each(%s)) AND work IS NOT NULL",
            (connection.ops.adapt_datetimefield_value(timezone.now()), most, json_text(channel_ids)),
        )
        return dict(cursor.fetchall())

    def look(self, cursor: Any, wanted: Wanted, patience: float) -> Look:
        now = self.now(cursor, patience)
        jobs: list[Job] = []
        held: dict[str, int] = {}
        due: dict[int, list[tuple[Job, str | None]]] = {}
        connections: dict[str, str] = {}
        if wanted.connected:
            cursor.execute(_CONNECTED.format(names=_SQLITE_LIST), (json_text(wanted.connected),))
            connections = dict(cursor.fetchall())
        if wanted.keys:
            cursor.execute(_LOCK.format(keys=_SQLITE_LIST), (json_text(wanted.keys),))
            jobs = list(map(_sqlite_job, cursor.fetchall()))
        if wanted.names:
            cursor.execute(_HELD.format(names=_SQLITE_LIST), (json_text(wanted.names),))
            held = dict(cursor.fetchall())
        for channel_id, most in wanted.due.items():
            moment = connection.ops.adapt_datetimefield_value(now)
            cursor.execute(_DUE.format(now="%s", lock=""), (channel_id, moment, most, wanted.size))
            due[channel_id] = [(_sqlite_job(row[:-1]), row[-1]) for row in cursor.fetchall()]
        ready = self.ready(cursor, list(due), wanted.counted + max(wanted.due.values())) if due else {}
        return Look(now, jobs, held, due, ready, connections)


class PostgresqlJobs:
    """PostgreSQL, through psycopg 3."""

    def now(self, cursor: Any, patience: float | None) -> datetime:
        if patience is None:
            cursor.execute("SELECT statement_timestamp()")
        else:
            cursor.execute(_NOW, (str(max(1, round(patience * 1000))),))
        now: datetime = cursor.fetchone()[0]
        return now

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, int, bool, Any]], now: Any) -> None:
        columns = list(map(list, zip(*rows, strict=True)))
        cursor.execute(
            f"INSERT INTO bus_job (channel_id, seq, uid, size, asked, {', '.join(CHANGING)})"
            " SELECT channel_id, seq, uid, size, asked, 'ready', coalesce(due_at, statement_timestamp()), 0, 0, '', '', false,"
            " NULL, NULL, NULL, NULL, NULL, '[]'::jsonb, '', ''"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::int[], %s::bool[], %s::timestamptz[])"
            " AS new(channel_id, seq, uid, size, asked, due_at)",
            columns,
        )

    def update(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        # An array of JSON would need a wrapper for each value, so it goes as text.
        types = ["bigint", *("text" if kind == "jsonb" else kind for kind in CHANGING.values())]
        places = [f"{name} = changed.{name}{'::jsonb' if kind == 'jsonb' else ''}" for name, kind in CHANGING.items()]
        cursor.execute(
            f"UPDATE bus_job SET {', '.join(places)}"
            f" FROM unnest({', '.join(f'%s::{kind}[]' for kind in types)}) AS changed(id, {', '.join(CHANGING)})"
            " WHERE bus_job.id = changed.id",
            list(map(list, zip(*rows, strict=True))),
        )

    def ready(self, cursor: Any, channel_ids: Sequence[int], most: int) -> dict[int, int]:
        cursor.execute(_READY_NOW, (most, list(channel_ids)))
        return dict(cursor.fetchall())

    def look(self, cursor: Any, wanted: Wanted, patience: float) -> Look:
        # One message to the server and one back: each way costs about as much as one of the statements.
        asked: list[tuple[str, list[Any]]] = [(_NOW, [str(max(1, round(patience * 1000)))])]
        if wanted.connected:
            names = _CONNECTED.format(names="SELECT unnest(%s::text[])")
            asked.append((f"{names} FOR NO KEY UPDATE", [list(wanted.connected)]))
        if wanted.keys:
            keys = _LOCK.format(keys="SELECT unnest(%s::bigint[])")
            asked.append((f"{keys} FOR NO KEY UPDATE", [list(wanted.keys)]))
        if wanted.names:
            asked.append((_HELD.format(names="SELECT unnest(%s::text[])"), [list(wanted.names)]))
        due_now = _DUE.format(now="statement_timestamp()", lock="FOR NO KEY UPDATE SKIP LOCKED")
        asked += [(due_now, [channel_id, most, wanted.size]) for channel_id, most in wanted.due.items()]
        if wanted.due:
            asked.append((_READY_NOW, [wanted.counted + max(wanted.due.values()), list(wanted.due)]))
        found = iter(_several(cursor, asked))
        now: datetime = next(found)[0][0]
        connections = dict(next(found)) if wanted.connected else {}
        jobs = list(map(_job, next(found))) if wanted.keys else []
        held = dict(next(found)) if wanted.names else {}
        due = {channel_id: [(_job(row[:-1]), row[-1]) for row in next(found)] for channel_id in wanted.due}
        return Look(now, jobs, held, due, dict(next(found)) if wanted.due else {}, connections)


def _several(cursor: Any, asked: Sequence[tuple[str, list[Any]]]) -> list[list[Any]]:
    """Return the rows of each statement. psycopg's usual cursor, which binds on the client's side, sends all at once."""
    if not hasattr(cursor, "mogrify"):
        found = []
        for statement, parameters in asked:
            cursor.execute(statement, parameters)
            found.append(cursor.fetchall())
        return found
    cursor.execute("; ".join(statement for statement, _ in asked), [value for _, values in asked for value in values])
    found = [cursor.fetchall()]
    while cursor.nextset():
        found.append(cursor.fetchall())
    return found


def statements() -> JobStatements:
    """Return the statements for the database of this thread's connection."""
    return JOBS_OF_VENDOR[connection.vendor]


JOBS_OF_VENDOR: dict[str, JobStatements] = {"postgresql": PostgresqlJobs(), "sqlite": SqliteJobs()}
