"""A process that prunes regularly finds what a look at all channels finds, and asks only for what something happened to."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bus import log
from bus.log import Entry, append_batch, retention
from bus.models import Channel, Message, Room, Stream
from bus.publishing.entry import random_uid

pytestmark = pytest.mark.django_db


def append(channel_id: int, count: int) -> None:
    entries = [Entry(channel_id, b"{", b"", random_uid(), "event", "x") for _ in range(count)]
    append_batch(entries, window=60)


@pytest.fixture
def channels() -> list[int]:
    room = Room.objects.create(name="kept")
    return [Channel.objects.create(room=room, name=f"c{number}").pk for number in range(8)]


def grow_old(channel_id: int, last: int) -> None:
    """Let the messages up to a seq be a minute old."""
    rows = Message.objects.filter(channel_id=channel_id, seq__lte=last)
    rows.update(created_at=timezone.now() - timedelta(seconds=60))


def pruned(regular: log.Retention, count: int, age: float) -> list[tuple[int, int]]:
    """What a regular look finds, which is removed."""
    found = regular.due(count, age)
    for channel_id, floor in found:
        log.drop(channel_id, floor, 1000)
    regular.done()
    return sorted(found)


@pytest.mark.parametrize("seed", range(10))
def test_regular_looks_find_what_a_look_at_all_channels_finds(channels: list[int], seed: int) -> None:
    chance = random.Random(seed)
    regular = log.Retention()
    count, age = chance.choice([(5, 0.0), (0, 30.0), (6, 30.0)])
    for _ in range(8):
        for _ in range(chance.randint(0, 3)):
            chosen = chance.choice(channels)
            append(chosen, chance.randint(1, 7))
            if chance.random() < 0.3:
                # Some messages were written before the look before this one.
                grow_old(chosen, chance.randint(1, 9))
                regular._seen = regular._seen._replace(expired_until=timezone.now() - timedelta(seconds=61))
            if chance.random() < 0.2:
                Channel.objects.filter(pk=chosen).update(retention_count=chance.choice([0, 2, 4, None]))
        everything = sorted(log.prunable(default_count=count, default_age=age))
        assert pruned(regular, count, age) == everything


def test_messages_that_somebody_needed_go_when_nobody_does(channels: list[int]) -> None:
    regular = log.Retention()
    append(channels[0], 10)
    stream = Stream.objects.create(uid="s", channel_id=channels[0], seq=4, state="open")
    assert pruned(regular, 2, 0) == [(channels[0], 3)]
    # Nothing else happens to the channel for a long time.
    regular._messages._newest.clear()
    regular._messages.saw(Message.objects.latest("id").pk, 0.0)
    assert pruned(regular, 2, 0) == [(channels[0], 3)]
    stream.delete()
    assert pruned(regular, 2, 0) == [(channels[0], 8)]
    assert pruned(regular, 2, 0) == []


def test_what_was_found_and_not_removed_is_found_again(channels: list[int]) -> None:
    regular = log.Retention()
    pruned(regular, 3, 0)
    append(channels[1], 10)
    assert regular.due(3, 0) == regular.due(3, 0) == [(channels[1], 7)]


def test_another_rule_and_an_hour_bring_a_look_at_all_channels(
    channels: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    regular = log.Retention()
    append(channels[2], 10)
    assert pruned(regular, 20, 0) == []
    regular._messages._newest.clear()
    regular._messages.saw(Message.objects.latest("id").pk, 0.0)
    assert pruned(regular, 5, 0) == [(channels[2], 5)]
    Channel.objects.filter(pk=channels[2]).update(head=11)
    assert pruned(regular, 5, 0) == []
    regular._seen = regular._seen._replace(next_whole=0.0)
    assert pruned(regular, 5, 0) == [(channels[2], 6)]


def test_channels_with_their_own_retention_have_an_index() -> None:
    with CaptureQueriesContext(connection) as asked:
        list(retention._with_rules().values_list("id", flat=True))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + asked[0]["sql"])
        plan = str(cursor.fetchall())
    assert "bus_channel_own_retention" in plan
