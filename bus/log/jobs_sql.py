"""The SQL statements for jobs, one class per database, in the manner of ``log.sql``.

PostgreSQL takes the times of jobs from its own clock, because the clocks of the servers differ.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

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

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, bool, Any]], now: Any) -> None:
        """Insert ready jobs as ``(channel_id, seq, uid, asked, due_at)``. Those without a ``due_at`` are due at once."""
        ...

    def update(self, cursor: Any, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write jobs: rows of the id and of the columns in :data:`CHANGING`."""
        ...

    def ready(self, cursor: Any, channel_ids: Sequence[int], most: int) -> dict[int, int]:
        """Return how many jobs of each work channel are ready and due, counted up to ``most``."""
        ...

    def lock(self, cursor: Any, keys: Sequence[int]) -> list[Job]:
        """Return the jobs with these ids, and lock their rows in the order of the ids."""
        ...

    def lock_due(self, cursor: Any, channel_id: int, now: datetime, most: int) -> list[tuple[Job, str | None]]:
        """Return the oldest ready jobs of a channel that nobody has locked, each with its message's frame, and lock their rows.

        The frame is None where somebody deleted the message itself.
        """
        ...

    def held(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        """Return how many claimed jobs each of these clients has. Clients without any are left out."""
        ...


#: The columns of a job, in the order of the model's fields.
_FIELDS = tuple(field.attname for field in Job._meta.concrete_fields)
_COLUMNS = ", ".join(f"bus_job.{name}" for name in _FIELDS)
_LOCK = f"SELECT {_COLUMNS} FROM bus_job WHERE id IN ({{keys}}) ORDER BY id"
_DUE = (
    f"SELECT {_COLUMNS}, bus_message.frame FROM bus_job LEFT JOIN bus_message"
    " ON bus_message.channel_id = bus_job.channel_id AND bus_message.seq = bus_job.seq"
    " WHERE bus_job.channel_id = %s AND bus_job.state = 'ready' AND bus_job.due_at <= %s"
    " ORDER BY bus_job.due_at, bus_job.id LIMIT %s"
)
_HELD = "SELECT client_id, count(*) FROM bus_job WHERE state = 'claimed' AND client_id IN ({names}) GROUP BY client_id"
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

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, bool, Any]], now: Any) -> None:
        for part in in_powers_of_two(rows):
            values = ",".join(
                ["(%s,%s,%s,%s,'ready',coalesce(%s,%s),0,0,'','',0,NULL,NULL,NULL,NULL,NULL,'[]','','')"] * len(part)
            )
            cursor.execute(
                f"INSERT INTO bus_job (channel_id, seq, uid, asked, {', '.join(CHANGING)}) VALUES {values}",
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

    def lock(self, cursor: Any, keys: Sequence[int]) -> list[Job]:
        cursor.execute(_LOCK.format(keys="SELECT value FROM json_each(%s)"), (json_text(keys),))
        return list(map(_sqlite_job, cursor.fetchall()))

    def lock_due(self, cursor: Any, channel_id: int, now: datetime, most: int) -> list[tuple[Job, str | None]]:
        cursor.execute(_DUE, (channel_id, connection.ops.adapt_datetimefield_value(now), most))
        return [(_sqlite_job(row[:-1]), row[-1]) for row in cursor.fetchall()]

    def held(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        cursor.execute(_HELD.format(names="SELECT value FROM json_each(%s)"), (json_text(client_ids),))
        return dict(cursor.fetchall())


class PostgresqlJobs:
    """PostgreSQL, through psycopg 3."""

    def now(self, cursor: Any, patience: float | None) -> datetime:
        if patience is None:
            cursor.execute("SELECT clock_timestamp()")
        else:
            cursor.execute(
                "SELECT clock_timestamp() FROM set_config('lock_timeout', %s, true)",
                (str(max(1, round(patience * 1000))),),
            )
        now: datetime = cursor.fetchone()[0]
        return now

    def insert(self, cursor: Any, rows: Sequence[tuple[int, int, str, bool, Any]], now: Any) -> None:
        columns = list(map(list, zip(*rows, strict=True)))
        cursor.execute(
            f"INSERT INTO bus_job (channel_id, seq, uid, asked, {', '.join(CHANGING)})"
            " SELECT channel_id, seq, uid, asked, 'ready', coalesce(due_at, clock_timestamp()), 0, 0, '', '', false,"
            " NULL, NULL, NULL, NULL, NULL, '[]'::jsonb, '', ''"
            " FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bool[], %s::timestamptz[])"
            " AS new(channel_id, seq, uid, asked, due_at)",
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
        cursor.execute(
            f"{_READY} WHERE id = ANY(%s) AND work IS NOT NULL".replace("%s", "clock_timestamp()", 1),
            (most, list(channel_ids)),
        )
        return dict(cursor.fetchall())

    def lock(self, cursor: Any, keys: Sequence[int]) -> list[Job]:
        cursor.execute(_LOCK.format(keys="SELECT unnest(%s::bigint[])") + " FOR NO KEY UPDATE", (list(keys),))
        return list(map(_job, cursor.fetchall()))

    def lock_due(self, cursor: Any, channel_id: int, now: datetime, most: int) -> list[tuple[Job, str | None]]:
        cursor.execute(_DUE + " FOR NO KEY UPDATE OF bus_job SKIP LOCKED", (channel_id, now, most))
        return [(_job(row[:-1]), row[-1]) for row in cursor.fetchall()]

    def held(self, cursor: Any, client_ids: Sequence[str]) -> dict[str, int]:
        cursor.execute(_HELD.format(names="SELECT unnest(%s::text[])"), (list(client_ids),))
        return dict(cursor.fetchall())


def statements() -> JobStatements:
    """Return the statements for the database of this thread's connection."""
    return JOBS_OF_VENDOR[connection.vendor]


JOBS_OF_VENDOR: dict[str, JobStatements] = {"postgresql": PostgresqlJobs(), "sqlite": SqliteJobs()}
