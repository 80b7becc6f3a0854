"""A look at the open logs finds what the earlier scan of all logs found."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from bus import log
from bus.log import Entry, Position, append_batch, looks
from bus.models import Channel, Erasure, Room, Stream, new_epoch
from bus.protocol.names import INBOX_ROOM
from bus.publishing.entry import random_uid

CLIENTS = [f"client-{number}" for number in range(6)]


class Old:
    """What the earlier looks at the log found: a scan of the logs that moved lately, and a comparison of all open logs."""

    def __init__(self, known: dict[int, Position], since: datetime) -> None:
        rows = Channel.objects.filter(touched_at__gte=since).values_list("id", "head", "epoch")
        heads = log.heads(known) | {row[0]: Position(*row) for row in rows if row[0] in known}
        self.moved = {place for place in heads.values() if place != known[place.id]}
        self.gone = known.keys() - heads.keys()
        boxes = Channel.objects.filter(id__in=[row[0] for row in rows], room__name=INBOX_ROOM).exclude(id__in=known)
        self.inboxes = set(boxes.values_list("name", "id"))


class World:
    """Some logs and inboxes, of which a process has some open, and what other processes do without a notification."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        room, _ = Room.objects.get_or_create(name="looks")
        self.inboxes, _ = Room.objects.get_or_create(name=INBOX_ROOM)
        self.ids = [Channel.objects.create(room=room, name=f"c{number}", head=number).pk for number in range(12)]
        # Nothing moved lately.
        Channel.objects.update(touched_at=timezone.now() - timedelta(hours=1))

    def open(self) -> dict[int, Position]:
        """The positions that the process knows of the logs that it has open."""
        return log.heads(self.random.sample(self.ids, 6))

    def happen(self) -> None:
        """Let one of the things happen that a look must find, or must not stumble over."""
        self.random.choice(
            [self.append, self.append, self.letter, self.late, self.new_epoch, self.remove, self.restore]
        )()

    def _one(self) -> int:
        return self.random.choice(self.ids)

    def append(self) -> None:
        places = [self._one() for _ in range(self.random.randint(1, 3))]
        append_batch([Entry(place, b"{", b"", random_uid(), "event", "x") for place in places], window=60)

    def letter(self) -> None:
        name = self.random.choice(CLIENTS)
        box, _ = Channel.objects.get_or_create(room=self.inboxes, name=name, defaults={"kind": Channel.Kind.INBOX})
        append_batch([Entry(box.pk, b"{", b"", random_uid(), "event", "x")], window=60)

    def late(self) -> None:
        """Append in a transaction that began an hour ago: its time is old."""
        place = self._one()
        append_batch([Entry(place, b"{", b"", random_uid(), "event", "x")], window=60)
        Channel.objects.filter(pk=place).update(touched_at=timezone.now() - timedelta(hours=1))

    def new_epoch(self) -> None:
        Channel.objects.filter(pk=self._one()).update(epoch=new_epoch(), touched_at=timezone.now())

    def remove(self) -> None:
        Channel.objects.filter(pk=self._one()).delete()

    def restore(self) -> None:
        """Lose the last messages, as a database that was restored."""
        Channel.objects.filter(pk=self._one(), head__gt=3).update(head=3)


@contextmanager
def undone() -> Iterator[None]:
    """Take back what happens within it."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(24))
def test_the_look_finds_what_the_scan_of_all_logs_found(seed: int) -> None:
    with undone():
        world = World(seed)
        known = world.open()
        since = timezone.now()
        floor = Channel.objects.order_by("-pk").values_list("pk", flat=True)[0]
        for _ in range(world.random.randint(0, 12)):
            world.happen()
        old = Old(known, since)
        found = looks.look(list(known.values()), floor, 0, since)
        assert set(found.moved) == old.moved
        assert set(found.gone) == old.gone
        assert {(box.client_id, box.position.id) for box in found.inboxes} == old.inboxes
        assert all(box.position == log.heads([box.position.id])[box.position.id] for box in found.inboxes)


@pytest.mark.django_db
def test_a_look_reads_erasures_above_its_floor_newest_first() -> None:
    channel = Channel.objects.create(room=Room.objects.create(name="looks"), name="a")
    rows = [Erasure.objects.create(channel=channel, seq=seq) for seq in (1, 2, 3)]
    now = timezone.now()
    expected = [(row.pk, channel.pk, row.seq) for row in reversed(rows)]
    assert looks.look([], None, 0, now).erasures[:3] == expected
    found = looks.look([], None, rows[0].pk, now)
    assert (found.erasures, found.newest_erasure) == (expected[:2], rows[2].pk)
    assert looks.look([], None, None, now).erasures == []


@pytest.mark.django_db
def test_a_look_says_whether_there_are_streamed_messages() -> None:
    channel = Channel.objects.create(room=Room.objects.create(name="looks"), name="a")
    Stream.objects.all().delete()
    now = timezone.now()
    assert not looks.look([], None, None, now).streams
    stream = Stream.objects.create(uid="s", channel=channel, seq=1, state="open")
    assert looks.look([], None, None, now).streams
    Stream.objects.filter(pk=stream.pk).update(state="done", ended_at=now)
    assert looks.look([], None, None, now).streams
    assert not looks.look([], None, None, now + timedelta(seconds=1)).streams


@pytest.mark.django_db
def test_a_look_reads_no_table_of_channels_or_messages_from_end_to_end() -> None:
    parameters = ('[[1, 0, "a"]]', 0, 0, 200, connection.ops.adapt_datetimefield_value(timezone.now()))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Tables of a test are so small that reading them whole costs less.
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + looks._SQL["postgresql"], parameters)
        else:
            cursor.execute("EXPLAIN QUERY PLAN " + looks._SQL["sqlite"], parameters)
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    whole = [line for line in plan.splitlines() if re.search(r"Seq Scan|^SCAN (bus_|c)(?!.* USING INDEX)", line)]
    assert not whole


@pytest.mark.pure
def test_a_floor_waits_for_transactions_that_commit_late() -> None:
    assert looks.Floor().value is None
    floor = looks.Floor()
    floor.saw(100, 0.0)
    floor.saw(200, 30.0)
    # A transaction took the key 150 before that, and commits now.
    values = [floor.value]
    floor.saw(200, 30.0 + looks.LATE)
    values.append(floor.value)
    assert values == [100, 200]


@pytest.mark.pure
def test_a_floor_begins_anew_after_a_restore() -> None:
    floor = looks.Floor()
    floor.saw(500, 0.0)
    floor.saw(500, 2 * looks.LATE)
    floor.saw(90, 2 * looks.LATE + 1)
    assert floor.value == 90
    floor.saw(95, 2 * looks.LATE + 2)
    assert floor.value == 90
