"""Streams in the gathering writer, and in two transactions at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connection, transaction

from bus import log
from bus.auth.permissions import Actor
from bus.log import Entry, streamed
from bus.log.committer import Committer
from bus.log.entry import is_passed
from bus.log.flight import Flight
from bus.models import Channel, Stream, StreamSteer
from bus.services import streams
from tests.log import streams as make
from tests.log.streams import bench, effect_of, frames, kept, opening, part, refusal, steer
from tests.log.writing import Writing
from tests.log.writing import write as writer

T = TypeVar("T")

pytestmark = pytest.mark.django_db(transaction=True)

ADA = Actor(principal="user:1", client_id="ada")


@pytest.fixture
def channel() -> Channel:
    return bench()


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    async with writer(timeout=10) as made:
        yield made


async def in_thread(work: Callable[[], T]) -> T:
    """Call something in a thread with a connection of its own."""

    def call() -> T:
        try:
            return work()
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(None, call)


async def test_what_a_client_pipelines_is_one_answer(writing: Writing, channel: Channel) -> None:
    done = await writing.append(
        opening(channel.id), *(part(channel.id, n, f"{n} ") for n in range(1, 30)), part(channel.id, 29, end="complete")
    )
    assert [entry.error for entry in done] == [None] * 31
    assert effect_of(done[-1]).stream.have == 29
    (end,) = [frame for frame in await in_thread(lambda: frames(channel)) if frame["type"] == "stream_end"]
    assert end["message"] == "".join(f"{n} " for n in range(1, 30))


async def test_ends_are_shared_out_over_transactions(
    writing: Writing, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads a whole text, so a thousand of them in one transaction would take a thousand times the largest one."""
    monkeypatch.setattr("bus.log.writer.GROUP_BYTES", 3 * 65536)
    await in_thread(lambda: make.write(*(opening(channel.id, f"arq_{n}") for n in range(9))))
    transactions: list[int] = []
    writing.writer.observe_commit = lambda batch, began, ended: transactions.append(len(batch))
    done = await writing.append(*(part(channel.id, 0, of=f"arq_{n}", end="complete") for n in range(9)))
    assert [entry.seq for entry in done] == list(range(10, 19))
    assert max(transactions) == 3


@pytest.mark.cluster
async def test_a_locked_stream_holds_up_its_own_channel_only(writing: Writing, channel: Channel) -> None:
    """The parts of the others go on, and those of the locked one follow in their order."""
    other = await in_thread(lambda: Channel.objects.create(room=channel.room, name="other"))
    await in_thread(lambda: make.write(opening(channel.id), opening(other.id, "arq_b1")))
    locked, release = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        with transaction.atomic():
            Stream.objects.filter(uid="arq_a1").update(principal="")
            loop.call_soon_threadsafe(locked.set)
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)

    holding = asyncio.ensure_future(in_thread(hold))
    await locked.wait()
    waiting = [asyncio.ensure_future(writing.append(part(channel.id, n, f"{n}"))) for n in (1, 2, 3)]
    waiting.append(asyncio.ensure_future(writing.append(part(channel.id, 3, end="complete"))))
    for n in range(1, 6):
        (grown,) = await writing.append(part(other.id, n, "x", of="arq_b1"))
        assert grown.error is None
    assert not any(one.done() for one in waiting)
    release.set()
    await holding
    answers = [answer for (answer,) in await asyncio.gather(*waiting)]
    assert [answer.error for answer in answers] == [None] * 4
    assert (await in_thread(lambda: frames(channel)))[-1]["message"] == "123"


def test_a_part_in_doubt_is_looked_for(channel: Channel) -> None:
    kept_, missing = part(channel.id, 1, "a"), part(channel.id, 2, "b")
    make.write(opening(channel.id), kept_)
    effect_of(missing).applied = True
    assert (log.verify([kept_]), log.verify([missing])) == (True, False)
    # A part of a dead attempt is gone, whoever has written the same number since.
    _, token = streams.adopt(Actor(client_id="ada"), "arq_a1", keep=False)
    assert not log.verify([kept_])
    make.write(part(channel.id, 1, "new", token=token))
    assert not log.verify([kept_])


@pytest.mark.cluster
def test_parts_whose_connection_dies_in_the_commit_get_a_true_answer(channel: Channel) -> None:
    """The database ends the session before the commit arrives: nothing was kept, and the owner hears UNAVAILABLE."""
    make.write(opening(channel.id))

    class Dying(Flight):
        def committing(self) -> None:
            super().committing()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (pid,) = cursor.fetchone()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(_end_session, pid).result(20)

    entries = [part(channel.id, 1, "a"), part(channel.id, 2, "b")]
    flight = Dying(entries, 1.0)
    assert not Committer(timeout=5, window=60).commit(flight)
    assert [refusal(entry) for entry in entries] == ["UNAVAILABLE"] * 2
    assert flight.passed == []
    assert kept() == []


def _end_session(pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    connection.close()


def test_a_part_that_was_written_is_not_passed_over(channel: Channel) -> None:
    """It has no seq, and neither has an entry whose channel was locked."""
    made = part(channel.id, 1, "a")
    assert is_passed(made)
    make.write(opening(channel.id), made)
    assert not is_passed(made)


def at_once(*works: Callable[[], T]) -> list[T]:
    """Run functions in threads of their own, with connections of their own."""

    def run(work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(60) for future in [pool.submit(run, work) for work in works]]


def test_an_adoption_against_appends_leaves_one_owner(channel: Channel) -> None:
    """Every part that was kept before the adoption counts, and none after it."""
    for round_ in range(10):
        of = f"arq_r{round_}"
        make.write(opening(channel.id, of, principal="user:1"))

        def old(of: str = of) -> list[Entry]:
            done: list[Entry] = []
            while len(done) < 200 and not (done and done[-1].error):
                done += make.write(part(channel.id, len(done) + 1, f"o{len(done) + 1} ", of=of, principal="user:1"))
            return done

        def adopt(of: str = of) -> list[Entry]:
            state, token = streams.adopt(Actor(principal="user:1", client_id="worker"), of)
            options: dict[str, Any] = {"of": of, "owner": "worker", "principal": "user:1", "token": token}
            done = make.write(part(channel.id, state.have + 1, "new ", **options))
            return done + make.write(part(channel.id, state.have + 1, end="complete", **options))

        before, (first, ended) = at_once(old, adopt)
        taken = [entry for entry in before if entry.error is None]
        assert {refusal(entry) for entry in before if entry.error} <= {"STREAM_LOST"}
        assert (first.error, ended.error) == (None, None)
        assert frames(channel)[-1]["message"] == "".join(f"o{n} " for n in range(1, len(taken) + 1)) + "new "


def test_steers_against_the_end_have_one_fate_each(channel: Channel) -> None:
    """Three senders, an owner that takes some, and the end in the midst of it."""
    for round_ in range(5):
        of = f"arq_r{round_}"
        make.write(opening(channel.id, of))

        def send(sender: str, of: str = of) -> list[Any]:
            return [
                entry
                for n in range(15)
                for entry in make.write(steer(channel.id, f"{of}_{sender}{n}", of=of, sender=sender))
            ]

        def own(of: str = of) -> list[Any]:
            taken: list[str] = []
            for n in range(1, 6):
                (made,) = make.write(part(channel.id, n, "x", of=of, wants_steers=True))
                state = streamed.state_of(of)
                assert state is not None
                seen = list(
                    StreamSteer.objects.filter(stream_id=state.id).order_by("seq").values_list("uid", flat=True)[:2]
                )
                (took,) = make.write(part(channel.id, n, of=of, took=tuple(seen)))
                assert (made.error, took.error) == (None, None)
                taken += seen
            (ended,) = make.write(part(channel.id, 5, of=of, end="complete"))
            assert ended.error is None
            return taken

        *sent, taken = at_once(lambda: send("a"), lambda: send("b"), lambda: send("c"), own)
        end = next(frame for frame in frames(channel) if frame.get("of") == of and frame["type"] == "stream_end")
        for entry in [entry for some in sent for entry in some]:
            fates = [entry.uid in taken, entry.uid in end["untaken"], not effect_of(entry).steered]
            assert fates.count(True) == 1, (entry.uid, fates)
    assert not StreamSteer.objects.exists()
