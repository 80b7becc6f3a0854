"""Leased work: a worker's loop goes on whatever happens to a job, and no job is lost or done twice."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import pickle
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus import ClaimLost, Job, errors, sync
from arqonbus.jobs import back_off, said
from tests.clients_python.conftest import Connect
from tests.clients_python.test_recovery import broken
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


@pytest.fixture
async def boss(client: Connect, admin_token: str) -> arqonbus.Bus:
    """A client that makes work channels, and publishes jobs."""
    return await client(token=admin_token)


async def made(boss: arqonbus.Bus, address: str, jobs: int, **rule: Any) -> str:
    """Make a work channel with jobs; its address."""
    await boss.create_channel(address, work=rule or True)
    for number in range(jobs):
        await boss.publish(address, payload={"n": number})
    return address


async def state(boss: arqonbus.Bus, address: str, **wanted: int) -> dict[str, Any]:
    """Wait until the queue has these numbers of ready, delayed, claimed and dead jobs."""
    seen: dict[str, Any] = {}

    async def so() -> bool:
        seen.update(await boss.jobs(address))
        there: Mapping[str, int] = {
            "ready": seen["ready"], "delayed": seen["delayed"], "claimed": seen["claimed_count"], "dead": seen["dead_count"],
        }  # fmt: skip
        return all(there[name] == value for name, value in wanted.items())

    await wait_for(so, f"{address} has {wanted}", deadline=WAIT)
    return seen


async def test_a_loop_does_one_job_after_the_other(boss: arqonbus.Bus, client: Connect, fresh_room: str) -> None:
    address, worker, done = await made(boss, f"{fresh_room}:new", 3), await client(), []
    async for job in worker.work(address):
        async with job:
            assert (await boss.jobs(address))["claimed_count"] == 1, "no job waits in the client"
            done.append((job.payload["n"], job.attempt, job.state, job.message.sender))
        assert job.state == "done"
        if len(done) == 3:
            break
    assert done == [(number, 1, "running", boss.client_id) for number in range(3)]
    await state(boss, address, ready=0, claimed=0)


async def test_a_failed_job_is_released_and_the_loop_goes_on(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 2, attempts=2), await client()
    jobs = worker.work(address)
    first = await jobs.get(WAIT)
    async with first:
        raise LookupError("there is none")
    assert (first.state, repr(first.error)) == ("released", "LookupError('there is none')")
    assert "failed at attempt 1; the next attempt follows in 2 s" in caplog.text
    async with await jobs.get(WAIT) as second:
        assert second.payload == {"n": 1}
    await state(boss, address, delayed=1)
    async with await jobs.get(WAIT) as again:
        assert (again.id, again.attempt) == (first.id, 2)
        raise LookupError("there is still none")
    assert again.state == "dead"
    queue = await state(boss, address, dead=1, delayed=0)
    # The overview has the newest error of each.
    assert [row["error"] for row in queue["dead"][0]["errors"]] == ["LookupError('there is still none')"]
    await boss.retry_job(address, first.seq)
    async with await jobs.get(WAIT) as third:
        await third.reject("nobody can")
    assert third.state == "dead"
    await boss.discard_job(address, first.seq)
    await state(boss, address, dead=0, ready=0)


async def test_a_result_that_the_server_refuses_runs_no_second_time(
    boss: arqonbus.Bus, client: Connect, fresh_room: str
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 2), await client()
    jobs = worker.work(address)
    for result in ("x" * 200_000, {"null": "\0"}):
        async with await jobs.get(WAIT) as job:
            job.result(result)
        assert (job.state, job.attempt, isinstance(job.error, arqonbus.ServerError)) == ("dead", 1, True)
    dead = (await state(boss, address, dead=2, ready=0))["dead"]
    assert all(str(row["errors"][0]["error"]).startswith("The result was refused. ") for row in dead)


async def test_a_job_that_expired_is_released_once(boss: arqonbus.Bus, client: Connect, fresh_room: str) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 1, lease=1, hold=1), await client()
    jobs = worker.work(address)
    job = await jobs.get(WAIT)
    await state(boss, address, ready=1)
    await job.release()
    assert (job.state, bool(job.lost), jobs.busy) == ("released", False, 0)


async def test_a_function_does_several_at_once(boss: arqonbus.Bus, client: Connect, fresh_room: str) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 10), await client()
    jobs = worker.work(address, concurrency=4)
    now, most, seen = 0, 0, set[int]()
    full = asyncio.Event()

    async def handle(job: Job) -> dict[str, Any]:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 4:
            full.set()
        await full.wait()
        seen.add(job.payload["n"])
        now -= 1
        if len(seen) == 10:
            await jobs.close()
        return {"n": job.payload["n"]}

    async with asyncio.timeout(WAIT):
        await jobs.run(handle)
    assert (most, seen) == (4, set(range(10)))
    await state(boss, address, ready=0, claimed=0)


async def test_a_plain_function_works_in_threads_and_its_result_is_the_answer(
    boss: arqonbus.Bus, client: Connect, fresh_room: str
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 0, attempts=1), await client()

    def handle(job: Job) -> Any:
        match job.text:
            case "end":
                raise SystemExit(3)
            case "a set":
                return {1}
            case text:
                return {"said": text}

    running = asyncio.create_task(worker.work(address, concurrency=2).run(handle))
    assert (await boss.ask(address, "hello")).payload == {"said": "hello"}
    with pytest.raises(arqonbus.AskFailed, match=r"SystemExit\(3\)"):
        await boss.ask(address, "end")
    with pytest.raises(arqonbus.AskFailed, match="JSON"):
        await boss.ask(address, "a set")
    assert not running.done()
    running.cancel()
    await asyncio.wait({running})


async def test_a_cancelled_worker_releases_its_jobs_at_once(
    boss: arqonbus.Bus, client: Connect, fresh_room: str
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 3), await client()
    begun = asyncio.Semaphore(0)

    async def handle(job: Job) -> None:
        begun.release()
        await asyncio.Event().wait()

    running = asyncio.create_task(worker.work(address, concurrency=2).run(handle))
    for _ in range(2):
        await asyncio.wait_for(begun.acquire(), WAIT)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    queue = await boss.jobs(address)
    assert (queue["ready"], queue["claimed_count"]) == (3, 0)


async def test_the_end_of_the_bus_releases_its_jobs_at_once_and_cancels_their_blocks(
    boss: arqonbus.Bus, client: Connect, fresh_room: str
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 1), await client()
    begun, after = asyncio.Event(), []

    async def work() -> None:
        async for job in worker.work(address):
            async with job:
                begun.set()
                await asyncio.Event().wait()
            after.append((job.state, bool(job.lost)))

    running = asyncio.create_task(work())
    await asyncio.wait_for(begun.wait(), WAIT)
    await worker.close()
    await asyncio.wait_for(running, WAIT)
    assert after == [("released", True)]
    assert (await boss.jobs(address))["ready"] == 1


async def test_jobs_that_nobody_takes_go_back(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 0), await client()
    jobs = worker.work(address)
    with pytest.raises(TimeoutError, match=r"No job of .* came within 0\.05 s"):
        await jobs.get(0.05)
    await boss.publish(address, "for nobody")
    await state(boss, address, ready=1, claimed=0)
    job: Job | None = await jobs.get(WAIT)
    assert job is not None
    assert job.text == "for nobody"
    await state(boss, address, claimed=1)
    del job
    gc.collect()
    await state(boss, address, ready=1, claimed=0)
    # A loop that forgets to end its jobs is told so.
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("arqonbus.work.PATIENCE", 0.05)
        kept = await jobs.get(WAIT)
        with pytest.raises(TimeoutError):
            await jobs.get(1)
    assert "Write `async with job:`" in caplog.text
    await kept.done({"a": "result"})
    with pytest.raises(ClaimLost, match="has ended here: done"):
        await kept.done()


async def test_what_the_block_does_to_itself_ends_no_loop(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 2), await client()
    jobs = worker.work(address)
    async with await jobs.get(WAIT) as job:
        inner = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner
    assert (job.state, repr(job.error)) == ("released", "CancelledError()")
    async with await jobs.get(WAIT) as job:
        await worker.close()
    assert (job.state, worker.state) == ("released", arqonbus.State.CLOSED)
    with pytest.raises(arqonbus.BusClosed):
        await jobs.get(WAIT)
    await state(boss, address, claimed=0)
    copied = pickle.loads(pickle.dumps(job.message))
    assert (copied, copied.bus, dataclasses.asdict(job.message)["id"]) == (job.message, None, job.id)


async def test_a_discarded_job_is_lost_and_its_block_is_cancelled(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 2, lease=1), await client()
    seen: list[tuple[int, str]] = []
    async with asyncio.timeout(WAIT):
        async for job in worker.work(address):
            async with job:
                if job.payload["n"] == 0:
                    await boss.discard_job(address, job.seq)
                    await asyncio.Event().wait()
            seen.append((job.payload["n"], job.state))
            if len(seen) == 2:
                break
    assert seen == [(0, "lost"), (1, "done")]
    assert "is lost" in caplog.text
    assert "cancelled" in caplog.text


async def test_a_claim_survives_a_broken_line_and_so_does_one_whose_answer_was_lost(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, worker = await made(boss, f"{fresh_room}:new", 1), await client()
    jobs = worker.work(address)
    async with await jobs.get(WAIT) as job:
        await broken(worker)
    assert job.state == "done"
    # The line breaks after the server has answered, and before the client reads it.
    assert worker._link is not None
    link, answered = worker._link, worker._answered

    def unheard(frame: dict[str, Any]) -> None:
        if frame.get("result", {}).get("claims"):
            monkeypatch.setattr(worker, "_answered", answered)
            link.abort()
        else:
            answered(frame)

    monkeypatch.setattr(worker, "_answered", unheard)
    taking, before = asyncio.create_task(jobs.get(WAIT)), worker.connections
    await boss.publish(address, "unheard")
    await wait_for(lambda: worker.connections > before, "the line broke", deadline=WAIT)
    async with await taking as job:
        assert (job.text, job.attempt) == ("unheard", 1)
    await state(boss, address, ready=0, claimed=0)


async def test_the_next_process_gets_the_jobs_of_a_killed_one(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, tmp_path: Path
) -> None:
    address, identity = await made(boss, f"{fresh_room}:new", 2), tmp_path / "worker.identity"
    killed = await client(identity=identity)
    jobs = killed.work(address)
    held = await jobs.get(WAIT)
    # Killed: it says nothing, and its connection is gone.
    monkey = killed._link
    assert monkey is not None
    killed._reconnect = False
    monkey.abort()
    await wait_for(lambda: killed.state is arqonbus.State.CLOSED, "it is gone", deadline=WAIT)
    async with await client(identity=identity) as back:
        async with await back.work(address).get(WAIT) as job:
            assert (job.id, job.attempt) == (held.id, 1)
        async with await back.work(address).get(WAIT) as job:
            assert job.payload == {"n": 1}
    await state(boss, address, ready=0, claimed=0)


async def test_what_cannot_work_says_why(boss: arqonbus.Bus, fresh_room: str) -> None:
    with pytest.raises(errors.ChannelNotFound):
        await boss.work(f"{fresh_room}:none").get(WAIT)
    await boss.create_channel(f"{fresh_room}:plain")
    with pytest.raises(errors.ValidationFailed, match="no work"):
        await boss.work(f"{fresh_room}:plain").get(WAIT)
    for wrong in ({"concurrency": 0}, {"concurrency": 2.5}, {"max_wait": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            boss.work(f"{fresh_room}:new", **wrong)
    with pytest.raises(ValueError, match="names no channel"):
        boss.work(fresh_room)


async def test_a_job_may_be_delayed(boss: arqonbus.Bus, client: Connect, fresh_room: str) -> None:
    address = await made(boss, f"{fresh_room}:new", 0)
    await boss.publish(address, "later", deliver_at=timedelta(seconds=1))
    await boss.publish(address, "much later", deliver_at=timedelta(hours=1))
    await state(boss, address, delayed=2)
    async with await (await client()).work(address).get(WAIT) as job:
        assert job.text == "later"
    await state(boss, address, delayed=1, ready=0)


async def test_the_blocking_client_works(boss: arqonbus.Bus, shared_server: BusServer, fresh_room: str) -> None:
    address = await made(boss, f"{fresh_room}:new", 3)

    def work() -> list[Any]:
        found: list[Any] = []
        with sync.connect(shared_server.url) as bus:
            with bus.work(address) as jobs:
                for job in jobs:
                    with job:
                        found.append((job.payload["n"], job.state))
                    found.append(job.state)
                    if len(found) == 4:
                        break
            threaded = bus.work(address, concurrency=2)

            def handle(job: sync.Job) -> None:
                found.append(job.payload["n"])
                threaded.close()

            threaded.run(handle)
        return found

    assert await asyncio.to_thread(work) == [(0, "running"), "done", (1, "running"), "done", 2]


@pytest.mark.pure
async def test_loops_beyond_the_limit_of_the_server_take_turns_and_say_so_once(
    boss: arqonbus.Bus, client: Connect, fresh_room: str, caplog: pytest.LogCaptureFixture
) -> None:
    address, worker = await made(boss, f"{fresh_room}:jobs", 0), await client()
    done: list[int] = []

    async def loop() -> None:
        async for job in worker.work(address):
            async with job:
                done.append(job.payload["n"])

    loops = [asyncio.create_task(loop()) for _ in range(40)]
    await wait_for(lambda: "LIMIT_REACHED" in caplog.text, "the server refuses a claim", deadline=WAIT)
    for number in range(60):
        await boss.publish(address, payload={"n": number})
    await wait_for(lambda: sorted(done) == list(range(60)), "the loops do all jobs", deadline=WAIT)
    for task in loops:
        task.cancel()
    await asyncio.wait(loops)
    (line,) = (record.getMessage() for record in caplog.records if "LIMIT_REACHED" in record.getMessage())
    assert line.endswith("wait already; trying again")


def test_pauses_grow_and_errors_are_short_texts() -> None:
    assert [back_off(attempt) for attempt in (1, 2, 3, 9, 10, 1000)] == [2, 4, 8, 512, 900, 900]
    assert said(None) is None
    assert said(LookupError("x")) == "LookupError('x')"
    assert said("half \ud83d a character") == "half ? a character"
    assert len(said("x" * 5000) or "") == 2000
