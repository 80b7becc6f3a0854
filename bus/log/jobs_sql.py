"""The SQL statements for jobs, one class per database, in the manner of ``log.sql``.

PostgreSQL takes the times of jobs from its own clock, because the clocks of the servers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from django.db import connection
from django.utils import timezone

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


def statements() -> JobStatements:
    """Return the statements for the database of this thread's connection."""
    return JOBS_OF_VENDOR[connection.vendor]


JOBS_OF_VENDOR: dict[str, JobStatements] = {"postgresql": PostgresqlJobs(), "sqlite": SqliteJobs()}
