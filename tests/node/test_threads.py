"""A question that costs the database too much ends with one clear error, and the thread goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from bus.node import threads
from bus.node.threads import DatabaseThreads
from bus.protocol.errors import BusError
from bus.services import questions

#: Work without an end that can be seen. On SQLite it is interrupted between steps of its machine.
ENDLESS = {
    "postgresql": "SELECT pg_sleep(600)",
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
}


def asked(statement: str) -> tuple[object, ...] | None:
    with connection.cursor() as cursor:
        row: tuple[object, ...] | None = cursor.execute(statement).fetchone()
        return row


@pytest.fixture
def asker() -> Iterator[DatabaseThreads]:
    """The thread of costly questions."""
    made = DatabaseThreads(1, "test-ask")
    yield made
    for closing in made.end():
        closing.result(10)


@pytest.mark.django_db(transaction=True)
def test_a_question_that_takes_too_long_ends_with_an_error_that_says_so(
    asker: DatabaseThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "LONGEST_QUESTION", 0.2)
    with pytest.raises(BusError, match=r"more than 0\.2 seconds") as refused:
        asker.submit(threads.database_question, asked, ENDLESS[connection.vendor]).result(60)
    assert refused.value.code == "UNAVAILABLE"
    assert refused.value.retry_after == 1.0
    # The next one finds the thread and its connection as they were.
    monkeypatch.setattr(questions, "LONGEST_QUESTION", 10.0)
    assert asker.submit(threads.database_question, asked, "SELECT 1").result(60) == (1,)
    assert asker.submit(threads.database_read, asked, "SELECT 2").result(60) == (2,)


@pytest.mark.cluster
@pytest.mark.django_db(transaction=True)
def test_the_bound_of_a_question_is_none_of_what_follows_on_the_connection(asker: DatabaseThreads) -> None:
    before = asker.submit(threads.database_read, asked, "SHOW statement_timeout").result(60)
    assert asker.submit(threads.database_question, asked, "SHOW statement_timeout").result(60) == ("10s",)
    assert asker.submit(threads.database_read, asked, "SHOW statement_timeout").result(60) == before
