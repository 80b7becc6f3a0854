"""How many rows a piece of work reads from the database, whatever time that takes."""

from __future__ import annotations

from typing import Any, Self

from django.db import connection
from django.test.utils import CaptureQueriesContext


class RowsRead:
    """A context that counts queries, and the rows that each of them handed over, of this thread's connection.

    The rows are found by asking again, so nothing may change in between.
    """

    def __init__(self) -> None:
        self._captured = CaptureQueriesContext(connection)
        #: The statements that read.
        self.statements: list[str] = []
        #: The rows of them all.
        self.rows = 0

    def __enter__(self) -> Self:
        self._captured.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._captured.__exit__(*exception)
        # The grants are remembered by a process; only the transaction that changed them asks anew each time.
        read = [query["sql"] for query in self._captured.captured_queries if query["sql"].startswith("SELECT")]
        self.statements = [statement for statement in read if 'FROM "bus_grant"' not in statement]
        with connection.cursor() as cursor:
            for statement in self.statements:
                cursor.execute(f"SELECT COUNT(*) FROM ({statement}) AS read_rows")
                self.rows += cursor.fetchone()[0]
