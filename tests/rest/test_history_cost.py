"""A page of history costs the same wherever it lies: ranges of the (channel, seq) index, no scan, no count."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus.auth.permissions import SYSTEM
from bus.log import seq_before
from bus.models import Channel, Message, Room
from bus.protocol.names import Address
from bus.services import history
from bus.services.history import Question

LENGTH = 6_000
SCAN = 400


@pytest.fixture
def logs(db: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Channel]:
    """Two long logs; one message in two thousand is rare, and a second lies between two messages.

    What a page looks at is smaller than it is otherwise, so that these logs are long beside it.
    """
    monkeypatch.setattr("bus.log.pages.SCAN", SCAN)
    room = Room.objects.create(name="big")
    start = timezone.now() - timedelta(seconds=LENGTH)
    made = {}
    for name in ("other", "log"):
        made[name] = channel = Channel.objects.create(room=room, name=name, head=LENGTH, created_at=start)
        for first in range(1, LENGTH, 1000):
            Message.objects.bulk_create(
                Message(
                    channel=channel,
                    seq=seq,
                    uid=f"{name}-{seq}",
                    type="rare" if seq % 2_000 == 1 else "event",
                    sender="x",
                    created_at=start + timedelta(seconds=seq),
                    frame=f'{{"type":"event","seq":{seq},"message":"n{seq}","payload":{{}}}}',
                )
                for seq in range(first, first + 1000)
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return made


def plans(question: Question) -> tuple[history.Page, list[str], list[str]]:
    """The page, the statements that read messages, and how the database runs each."""
    with CaptureQueriesContext(connection) as captured:
        page = history.page(SYSTEM, question)
    statements = [q["sql"] for q in captured.captured_queries if '"bus_message"' in q["sql"]]
    explained = []
    prefix = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(f"{prefix} {statement}")
            explained.append("\n".join(str(row) for row in cursor.fetchall()))
    return page, statements, explained


LOG = Address("big", "log")


def test_every_query_is_a_range_of_the_index(logs: dict[str, Channel]) -> None:
    for question in (
        Question(LOG),
        Question(LOG, before=LENGTH // 2),
        Question(LOG, after=LENGTH // 2, descending=False),
        Question(LOG, type="rare", before=4_100),
        Question(LOG, sender="x", text=f"n{LENGTH - 50}"),
        Question(Address("big", "*"), limit=20),
        Question(None, type="rare", descending=False),
    ):
        page, statements, explained = plans(question)
        assert page.messages, question
        assert statements
        for statement, plan in zip(statements, explained, strict=True):
            assert "COUNT(" not in statement
            # SQLite names its index after the constraint's table and number. The frames of a page over several logs go by id.
            ranges = r"bus_message_channel_seq|SEARCH bus_message USING \w* ?INDEX sqlite_autoindex"
            assert re.search(rf"{ranges}|INTEGER PRIMARY KEY|bus_message_pkey", plan), plan
            assert not re.search(r"SCAN bus_message|Seq Scan on bus_message", plan), plan


def test_a_rare_message_is_found_over_pages_that_look_at_a_bounded_part(logs: dict[str, Channel]) -> None:
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = history.page(SYSTEM, Question(LOG, type="rare", cursor=cursor))
        found += [message.seq for message in page.messages]
        cursor, pages = page.cursor, pages + 1
    assert found == [4_001, 2_001, 1]
    assert pages == LENGTH // SCAN


def test_a_time_is_found_by_halving_the_log(logs: dict[str, Channel]) -> None:
    first = Message.objects.get(channel=logs["log"], seq=1).created_at
    with CaptureQueriesContext(connection) as captured:
        for seq in (1, 2, 3_333, LENGTH):
            assert seq_before(logs["log"].pk, first + timedelta(seconds=seq - 1)) == seq - 1
        assert seq_before(logs["log"].pk, timezone.now() + timedelta(days=1)) == LENGTH
        assert seq_before(logs["log"].pk, first - timedelta(days=1)) == 0
    assert len(captured) <= 6 * 15
    page = history.page(SYSTEM, Question(LOG, after=first + timedelta(seconds=99), descending=False, limit=2))
    assert [message.seq for message in page.messages] == [101, 102]


def test_no_page_misses_a_message_whose_time_is_not_that_of_its_place(db: None) -> None:
    """Two processes write to one log by clocks that differ; the order within it is that of ``seq`` all the same."""
    room = Room.objects.create(name="clocks")
    now = timezone.now()
    for name, offsets in (("a", (0, 5, 1, 1, 9, 2)), ("b", (3, 0, 4, 1, 1, 8))):
        channel = Channel.objects.create(room=room, name=name, head=len(offsets), created_at=now - timedelta(hours=1))
        for seq, offset in enumerate(offsets, 1):
            moment = now - timedelta(minutes=1) + timedelta(milliseconds=offset)
            frame = f'{{"channel":"{name}","seq":{seq}}}'
            Message.objects.create(
                channel=channel, seq=seq, uid=f"{name}{seq}", type="event", created_at=moment, frame=frame
            )
    for address in (Address("clocks", "a"), Address("clocks", "*")):
        for descending in (True, False):
            for limit, most_bytes in ((1, 10**6), (2, 10**6), (5, 10**6), (500, 50)):
                seen: dict[int, list[int]] = {}
                cursor: str | None = None
                while True:
                    question = Question(address, limit, descending=descending, cursor=cursor, most_bytes=most_bytes)
                    page = history.page(SYSTEM, question)
                    assert len(page.messages) <= (limit if most_bytes == 10**6 else 2)
                    for message in page.messages:
                        seen.setdefault(message.channel_id, []).append(message.seq)
                    cursor = page.cursor
                    if cursor is None:
                        break
                order = [6, 5, 4, 3, 2, 1] if descending else [1, 2, 3, 4, 5, 6]
                assert list(seen.values()) == [order] * (1 if address.channel == "a" else 2), question
