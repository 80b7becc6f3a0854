"""Group commit: one order, true answers, and no entry that costs another one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from datetime import timedelta
from types import ModuleType

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bus import log
from bus.log import Entry, append, append_batch, plain
from bus.models import Channel, Job, Message, PublishKey, Room
from bus.protocol.errors import BusError
from bus.services.channels import remove
from tests.log.writing import Writing, write

pytestmark = pytest.mark.django_db(transaction=True)

MakeEntry = Callable[..., Entry]


@pytest.fixture
def channel() -> Channel:
    """A channel with an empty log."""
    return Channel.objects.create(room=Room.objects.create(name="lab"), name="bench")


@pytest.fixture
def entry(channel: Channel) -> MakeEntry:
    """Makes entries for the channel."""

    def make(uid: str, *, key: str | None = None, channel_id: int | None = None, type: str = "event") -> Entry:
        return Entry(
            channel_id or channel.id,
            b'{"version":"1.0","id":"%b","timestamp":"' % uid.encode(),
            b"}",
            uid=uid,
            type=type,
            sender="somebody",
            key=key,
        )

    return make


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    """A writer that waits for long before it refuses anything."""
    async with write(timeout=10) as made:
        yield made


@pytest.fixture
async def hurried() -> AsyncIterator[Writing]:
    """A writer that has little patience, for what is refused."""
    async with write(timeout=1) as made:
        yield made


async def kept() -> list[tuple[int, str]]:
    """What is in the log."""

    def read() -> list[tuple[int, str]]:
        try:
            return list(Message.objects.order_by("seq").values_list("seq", "uid"))
        finally:
            connection.close()

    # Not asyncio.to_thread, which takes this thread's connection along.
    return await asyncio.get_running_loop().run_in_executor(None, read)


async def held(channel: Channel) -> tuple[asyncio.Event, asyncio.Future[None]]:
    """Another transaction holds the channel's row, until the event is set; then the future is done."""
    locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with transaction.atomic():
            Channel.objects.filter(pk=channel.pk).update(description="held")
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
        connection.close()

    holding = loop.run_in_executor(None, hold)
    await locked.wait()
    return release, holding


async def test_what_comes_together_is_committed_together_in_its_order(writing: Writing, entry: MakeEntry) -> None:
    answered = await writing.append(*(entry(f"arq_{n}") for n in range(40)))
    assert [e.seq for e in answered] == list(range(1, 41))
    assert await kept() == [(n + 1, f"arq_{n}") for n in range(40)]
    assert writing.committed == [f"arq_{n}" for n in range(40)]


async def test_a_message_that_cannot_be_kept_costs_its_own_sender_only(writing: Writing, entry: MakeEntry) -> None:
    """NULL is no type: the database refuses the whole statement, and the others go in without it."""
    bad = entry("arq_bad")
    bad.type = None  # type: ignore[assignment]
    one, refused, two = await writing.append(entry("arq_1"), bad, entry("arq_2"))
    assert refused.error is not None
    assert refused.error.code == "INTERNAL_ERROR"
    assert (one.seq, two.seq) == (1, 2)
    assert await kept() == [(1, "arq_1"), (2, "arq_2")]
    assert writing.committed == ["arq_1", "arq_2"]


async def test_a_deleted_channel_is_said_and_the_others_are_written(writing: Writing, entry: MakeEntry) -> None:
    gone, there = await writing.append(entry("arq_1", channel_id=10**6), entry("arq_2"))
    assert gone.error is not None
    assert gone.error.code == "CHANNEL_NOT_FOUND"
    assert there.seq == 1


async def test_a_key_of_another_channel_is_refused_in_a_batch_and_after_it(
    writing: Writing, entry: MakeEntry, channel: Channel
) -> None:
    other = await asyncio.get_running_loop().run_in_executor(None, another, channel)
    first, second = await writing.append(entry("arq_1", key="me/1"), entry("arq_2", key="me/1", channel_id=other))
    (third,) = await writing.append(entry("arq_3", key="me/1", channel_id=other))
    assert (first.seq, first.error) == (1, None)
    for refused in (second, third):
        assert refused.error is not None
        assert (refused.error.code, refused.seq, refused.duplicate) == ("VALIDATION_ERROR", None, False)
    assert await kept() == [(1, "arq_1")]


def test_the_short_way_of_sqlite_writes_what_the_general_one_writes(
    channel: Channel, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch goes in twice: as usual, and while somebody watches Django's statements."""
    ways: list[str] = []

    def note(module: ModuleType, name: str, way: str) -> None:
        real = getattr(module, name)

        def noted(*args: object) -> object:
            ways.append(way)
            return real(*args)

        monkeypatch.setattr(module, name, noted)

    note(plain, "append", "short")
    note(append, "_append", "general")
    batches: dict[str, list[tuple[str, str | None]]] = {
        "short": [("a", "1"), ("b", "2"), ("c", None)],
        "repeated": [("d", "1")],
        "repeated here": [("e", "3"), ("f", "3")],
        "many": [(f"n{number}", str(100 + number)) for number in range(70)],
        "gone": [("g", "4"), ("gone", None), ("h", "5")],
        "work": [("i", None), ("work", "6")],
    }

    def written(*, watched: bool) -> list[object]:
        place, work = (
            Channel.objects.create(room=channel.room, name=f"{name}-{watched}").pk for name in ("place", "work")
        )
        Channel.objects.filter(pk=work).update(work={"lease": 30})
        found: list[object] = []
        for batch in batches.values():
            made = [
                entry(
                    uid,
                    key=message_id and f"{watched}/{message_id}",
                    channel_id={"gone": 10**6, "work": work}.get(uid, place),
                )
                for uid, message_id in batch
            ]
            watch = connection.execute_wrapper(lambda execute, *args: execute(*args)) if watched else nullcontext()
            with watch:
                append_batch(made, window=60)
            found += [(e.seq, e.duplicate, e.error and e.error.code, bool(e.frame), bool(e.epoch)) for e in made]
            found.append(Channel.objects.get(pk=place).head)
        for channel_id in (place, work):
            rows = Message.objects.filter(channel_id=channel_id).order_by("seq")
            found += [(row.seq, row.uid, row.type, row.sender, row.as_dict()["seq"]) for row in rows]
            found += PublishKey.objects.filter(channel_id=channel_id).order_by("seq").values_list("seq", flat=True)
        found.append(Job.objects.filter(channel_id=work).count())
        return found

    assert written(watched=False) == written(watched=True)
    if connection.vendor == "sqlite":
        assert ways[: -len(batches)] == ["short", *["short", "general"] * 2, "short", *["short", "general"] * 2]
    assert ways[-len(batches) :] == ["general"] * len(batches)


def test_a_transaction_without_atomic_is_the_caller_s_own(channel: Channel, entry: MakeEntry) -> None:
    """Its first write has begun a transaction, in which SQLite begins no other one."""
    transaction.set_autocommit(False)
    try:
        Room.objects.filter(pk=channel.room_id).update(description="changed")
        append_batch([entry("arq_1")], window=60)
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert Message.objects.filter(uid="arq_1").exists()


async def test_a_repeated_key_is_one_message_in_a_batch_and_after_it(writing: Writing, entry: MakeEntry) -> None:
    first, second = await writing.append(entry("arq_1", key="me/1"), entry("arq_2", key="me/1"))
    (third,) = await writing.append(entry("arq_3", key="me/1"))
    assert [(e.seq, e.duplicate) for e in (first, second, third)] == [(1, False), (1, True), (1, True)]
    assert await kept() == [(1, "arq_1")]


def test_the_keys_of_a_channel_that_is_gone_count_for_nothing_and_cost_its_removal_nothing(
    channel: Channel, entry: MakeEntry
) -> None:
    append_batch([entry("arq_1", key="me/1"), entry("arq_2", key="me/2")], window=60)
    other = Channel.objects.create(room=channel.room, name="other")
    with CaptureQueriesContext(connection) as asked, transaction.atomic():
        remove(channel)
    assert not [query["sql"] for query in asked if "bus_publishkey" in query["sql"]], "a look at all keys"
    again = [entry("arq_3", key="me/1", channel_id=other.id), entry("arq_4", key="me/1", channel_id=other.id)]
    append_batch(again, window=60)
    assert [(e.seq, e.duplicate) for e in again] == [(1, False), (1, True)]
    assert [log.forget_keys(-1, 1) for _ in range(3)] == [1, 1, 0]


async def test_a_queue_that_is_full_is_said_at_once(writing: Writing, entry: MakeEntry) -> None:
    for number in range(50):
        writing.writer.append(entry(f"arq_{number}"))
    with pytest.raises(BusError, match="BUSY"):
        writing.writer.append(entry("arq_50"))
    # But not to the second half of those who were promised a copy.
    writing.writer.append(entry("arq_51"), further=True)
    await writing.writer.drained()
    assert [uid for _, uid in await kept()] == [*(f"arq_{number}" for number in range(50)), "arq_51"]


@pytest.mark.parametrize("before", [0, 20, 30, 49])
async def test_many_at_once_get_the_answers_of_one_after_another(
    writing: Writing, entry: MakeEntry, before: int
) -> None:
    """The queue has 50 places. Half of them are for the owner of the first messages once others wait, too."""

    def made() -> list[Entry]:
        some = [entry(f"arq_{number}") for number in range(20)]
        for number, one in enumerate(some):
            one.owner = "ab"[number % 2]
        return some

    answers: list[list[str]] = []
    for many in (False, True):
        for number in range(before):
            first = entry(f"arq_before_{number}")
            first.owner = "a"
            writing.writer.append(first)
        refused: list[str] = []
        if many:
            refused = [one.uid for one, problem in writing.writer.append_all(made()) if problem.code == "BUSY"]
        else:
            for one in made():
                try:
                    writing.writer.append(one)
                except BusError:
                    refused.append(one.uid)
        assert len(writing.writer) == before + 20 - len(refused)
        await asyncio.wait_for(writing.writer.drained(), 20)
        answers.append(refused)
    assert answers[0] == answers[1]
    assert bool(answers[1]) == (before >= 20)
    uids = [uid for _, uid in await kept()]
    assert uids[: len(uids) // 2] == uids[len(uids) // 2 :]
    assert writing.writer.append_all([]) == []


async def test_large_messages_that_wait_are_bounded_in_bytes_and_shared_out_over_transactions(
    writing: Writing, entry: MakeEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.log.writer.GROUP_BYTES", 150_000)
    transactions: list[int] = []
    writing.writer.observe_commit = lambda batch, began, ended: transactions.append(len(batch))

    def large(number: int) -> Entry:
        made = entry(f"arq_{number}")
        made.tail = b',"message":"%b"}' % (b"x" * 100_000)
        return made

    for number in range(10):
        writing.writer.append(large(number))
    with pytest.raises(BusError, match="BUSY"):
        writing.writer.append(large(10))
    await asyncio.wait_for(writing.writer.drained(), 20)
    assert transactions == [2, 2, 2, 2, 2]
    # Nothing is counted that does not wait any more.
    for number in range(10, 20):
        writing.writer.append(large(number))
    await asyncio.wait_for(writing.writer.drained(), 20)
    assert [uid for _, uid in await kept()] == [f"arq_{number}" for number in range(20)]


async def test_what_a_lock_held_up_is_refused_and_stays_refused_when_the_lock_is_gone(
    hurried: Writing, entry: MakeEntry, channel: Channel
) -> None:
    release, holding = await held(channel)
    (refused,) = await hurried.append(entry("arq_1"))
    assert refused.error is not None
    assert refused.error.code == "UNAVAILABLE"
    assert hurried.writer.available == (connection.vendor == "postgresql"), "there, it is the fault of one channel only"
    release.set()
    await holding
    await hurried.writer.drained()
    (after,) = await hurried.append(entry("arq_2"))
    assert after.seq == 1
    assert await kept() == [(1, "arq_2")]
    assert hurried.writer.available


@pytest.mark.cluster
async def test_a_held_channel_costs_its_own_publishers_only_and_keeps_its_order(
    entry: MakeEntry, writing: Writing, channel: Channel
) -> None:
    """In one batch, in later ones, and when it is free again: first come, first written."""
    other = await asyncio.get_running_loop().run_in_executor(None, another, channel)
    release, holding = await held(channel)
    waiting = [asyncio.ensure_future(writing.append(entry(f"arq_{n}"))) for n in range(3)]
    for n in range(10):
        (taken,) = await writing.append(entry(f"arq_other{n}", channel_id=other))
        assert taken.seq == n + 1
        if n < 5:
            waiting.append(asyncio.ensure_future(writing.append(entry(f"arq_{n + 3}"))))
    assert not any(one.done() for one in waiting)
    release.set()
    await holding
    answers = [answer for (answer,) in await asyncio.gather(*waiting)]
    assert [(answer.uid, answer.seq, answer.error) for answer in answers] == [
        (f"arq_{n}", n + 1, None) for n in range(8)
    ]
    (after,) = await writing.append(entry("arq_after"))
    assert after.seq == 9
    assert [uid for uid in writing.committed if "other" not in uid] == [*(f"arq_{n}" for n in range(8)), "arq_after"]


@pytest.mark.cluster
async def test_publishers_of_a_held_channel_are_refused_in_time_while_others_go_on(
    entry: MakeEntry, hurried: Writing, channel: Channel
) -> None:
    other = await asyncio.get_running_loop().run_in_executor(None, another, channel)
    release, holding = await held(channel)
    refused = 0
    for n in range(3):
        first, taken = await hurried.append(entry(f"arq_{n}"), entry(f"arq_other{n}", channel_id=other))
        assert taken.seq == n + 1
        assert first.error is not None
        assert first.error.code == "UNAVAILABLE"
        refused += 1
    assert hurried.writer.available
    release.set()
    await holding
    (after,) = await hurried.append(entry("arq_after"))
    assert (refused, after.seq) == (3, 1)


def another(channel: Channel) -> int:
    """A second channel, made in a thread."""
    try:
        return Channel.objects.create(room=channel.room, name="other").pk
    finally:
        connection.close()


def test_pruning_goes_in_steps_and_leaves_what_the_retention_keeps(channel: Channel, entry: MakeEntry) -> None:
    append_batch([entry(f"arq_{n}") for n in range(30)], window=60)
    assert log.prunable(default_count=10, default_age=0) == [(channel.id, 20)]
    assert [log.drop(channel.id, 20, 8) for _ in range(4)] == [8, 8, 4, 0]
    assert log.first_seq(channel.id) == 21
    assert log.prunable(default_count=10, default_age=0) == []


def test_the_place_of_a_moment_is_found_in_a_log_that_lacks_its_beginning_and_more(channel: Channel) -> None:
    start = timezone.now() - timedelta(hours=1)
    left = [*range(400, 700), 705, *range(900, 1000)]
    Message.objects.bulk_create(
        Message(channel=channel, seq=seq, uid=f"arq_{seq}", created_at=start + timedelta(seconds=seq), frame="{}")
        for seq in left
    )
    for moment in (0, 1, 399, 400, 401, 555, 699, 700, 704, 705, 706, 800, 900, 901, 998, 999, 1000, 2000):
        before = [seq for seq in left if seq < moment]
        found = log.seq_before(channel.id, start + timedelta(seconds=moment))
        # Where nothing left is older: the place just before what is left. A place within a gap is as good as its beginning.
        low = before[-1] if before else 399
        assert low <= found < min((seq for seq in left if seq > low), default=1000), moment
    Message.objects.all().delete()
    assert log.seq_before(channel.id, timezone.now()) == 0


def test_the_retention_by_age_drops_what_is_older_and_nothing_else(
    channel: Channel, entry: MakeEntry, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    append_batch([entry(f"arq_{n}") for n in range(30)], window=60)
    Message.objects.filter(seq__lte=12).update(created_at=timezone.now() - timedelta(seconds=90))
    # One look into each channel, in one query, where nothing is old: there may be thousands.
    with django_assert_num_queries(1):
        assert log.prunable(default_count=0, default_age=3600) == []
    assert log.prunable(default_count=0, default_age=60) == [(channel.id, 12)]
    log.drop(channel.id, 12, 100)
    assert log.prunable(default_count=0, default_age=60) == []


def test_what_is_undone_before_the_commit_was_never_there(channel: Channel, entry: MakeEntry) -> None:
    def abandon() -> None:
        raise RuntimeError("withdrawn")

    with pytest.raises(RuntimeError, match="withdrawn"):
        append_batch([entry("arq_1")], window=60, before_commit=abandon)
    made = entry("arq_2")
    append_batch([made], window=60)
    assert made.seq == 1
    assert log.verify([made])
    assert not log.verify([entry("arq_1")])
