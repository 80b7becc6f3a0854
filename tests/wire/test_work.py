"""Leased work over a real socket: claims and their ends, waits, lost answers, and what is answered to wrong frames."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

DEADLINE = 20.0


class Queue:
    """A work channel of its own for a test."""

    def __init__(self, boss: WireClient, room: str) -> None:
        self.boss = boss
        self.where: dict[str, Any] = {"room": room, "channel": "jobs"}

    async def put(self, count: int = 1, **fields: Any) -> None:
        """Publish jobs with the payloads `{"n": 1}`, `{"n": 2}` …"""
        for number in range(1, count + 1):
            await self.boss.publish(payload={"n": number}, ack=True, timeout=DEADLINE, **self.where, **fields)

    async def claim(self, client: WireClient, **parameters: Any) -> list[dict[str, Any]]:
        """What a claim gets."""
        got = await client.request("claim", timeout=40, **self.where, **parameters)
        claims: list[dict[str, Any]] = got["claims"]
        return claims

    async def overview(self) -> dict[str, Any]:
        """What the channel has to do."""
        return await self.boss.request("work", **self.where)


@pytest.fixture
async def queue(shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str) -> Queue:
    """A work channel with two attempts."""
    made = Queue(await wire(shared_server, token=admin_token, room=f"{fresh_room}:door"), fresh_room)
    await made.boss.request("create_channel", work={"attempts": 2, "dead": f"{fresh_room}:dead"}, **made.where)
    return made


async def refused(answer: Any) -> dict[str, Any]:
    """The error that a request gets."""
    with pytest.raises(WireError) as caught:
        await answer
    error: dict[str, Any] = caught.value.frame["error"]
    return error


def numbers(claims: list[dict[str, Any]]) -> list[int]:
    """The payloads of claimed jobs."""
    return [claim["message"]["payload"]["n"] for claim in claims]


async def test_each_job_goes_to_one_worker_in_both_dialects(
    shared_server: BusServer, wire: Connect, queue: Queue, dialect: Dialect
) -> None:
    ada, bob = await wire(shared_server, dialect=dialect), await wire(shared_server)
    await queue.put(3)
    (first,), rest = await queue.claim(ada), await queue.claim(bob, max=100)
    assert (numbers([first]), numbers(rest)) == ([1], [2, 3])
    assert (first["attempt"], first["lease"], first["hold"]) == (1, 30, 3600)
    done = await ada.request("done", claim=first["claim"], result={"any": ["json", None]})
    assert done == {"claim": first["claim"], "seq": 1, "state": "done", "replied": False}
    assert await ada.request("done", claim=first["claim"]) == done
    assert (await bob.request("renew", claim=rest[0]["claim"]))["claim"] == rest[0]["claim"]
    # A claim is its worker's own.
    for command in ("renew", "done", "release", "reject"):
        assert (await refused(ada.request(command, claim=rest[0]["claim"])))["code"] == "CLAIM_NOT_FOUND", command


async def test_a_waiting_claim_wakes_with_the_job_and_holds_up_nothing(
    shared_server: BusServer, wire: Connect, queue: Queue
) -> None:
    worker = await wire(shared_server)
    waiting = [asyncio.ensure_future(queue.claim(worker, wait=25)) for _ in range(2)]
    await worker.ping()
    await queue.put(1)
    done, _ = await asyncio.wait(waiting, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
    ((job,),) = [task.result() for task in done]
    # The other claim still waits, and the socket serves the end of the first meanwhile.
    await worker.request("release", claim=job["claim"])
    (again,) = await next(task for task in waiting if task not in done)
    assert (numbers([again]), again["attempt"]) == ([1], 2)


async def test_delayed_jobs_come_when_they_are_due(shared_server: BusServer, wire: Connect, queue: Queue) -> None:
    worker = await wire(shared_server)
    await queue.put(1, deliver_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    overview = await queue.overview()
    assert (overview["ready"], overview["delayed"]) in [(0, 1), (1, 0)]
    assert numbers(await queue.claim(worker, wait=25)) == [1]
    for wrong in ("soon", 5, "2026-01-01T00:00:00", (datetime.now(UTC) + timedelta(days=400)).isoformat()):
        error = await refused(queue.put(1, deliver_at=wrong))
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "deliver_at"), wrong


async def test_what_nobody_can_do_is_put_aside_and_may_be_tried_again(
    shared_server: BusServer, wire: Connect, queue: Queue
) -> None:
    worker = await wire(shared_server)
    await queue.put(2)
    first, second = await queue.claim(worker, max=2)
    assert (await worker.request("reject", claim=first["claim"], error="no"))["state"] == "dead"
    assert (await worker.request("release", claim=second["claim"], error="later"))["state"] == "ready"
    (second,) = await queue.claim(worker)
    assert (await worker.request("release", claim=second["claim"]))["state"] == "dead"
    error = await refused(worker.request("done", claim=second["claim"]))
    assert (error["code"], error["details"][0]["why"]) == ("CLAIM_LOST", "cancelled")
    assert [(job["seq"], job["attempts"]) for job in (await queue.overview())["dead"]] == [(1, 1), (2, 2)]
    assert (await refused(worker.request("retry_job", seq=1, **queue.where)))["code"] == "FORBIDDEN"
    assert (await queue.boss.request("retry_job", seq=1, **queue.where))["state"] == "ready"
    (again,) = await queue.claim(worker, wait=25)
    assert again["attempt"] == 1
    assert (await queue.boss.request("discard_job", seq=1, **queue.where))["state"] == "discarded"
    error = await refused(worker.request("renew", claim=again["claim"]))
    assert (error["code"], error["details"][0]["why"]) == ("CLAIM_LOST", "cancelled")


async def test_who_comes_back_keeps_its_claims_and_gets_those_it_never_heard_of(
    shared_server: BusServer, wire: Connect, queue: Queue
) -> None:
    worker = await wire(shared_server)
    await queue.put(3)
    known, lost = await queue.claim(worker, max=2)
    await worker.cut()
    back = await worker.reconnect()
    (told,) = await queue.claim(back, have=[known["claim"]])
    assert told == lost
    assert numbers(await queue.claim(back, max=5)) == [3]
    for job in (known, lost):
        assert (await back.request("done", claim=job["claim"]))["state"] == "done"
    await back.close()


async def test_the_jobs_of_a_worker_that_is_gone_are_out_again(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server, env={"ARQONBUS_CLAIM_GRACE": "0.5"})
    token = await asyncio.to_thread(server.create_token, "boss", admin=True)
    queue = Queue(await wire(server, token=token, room=f"{fresh_room}:door"), fresh_room)
    await queue.boss.request("create_channel", work={"lease": 600}, **queue.where)
    gone, next_one = await wire(server), await wire(server)
    await queue.put(1)
    (job,) = await queue.claim(gone)
    await gone.cut()
    (again,) = await queue.claim(next_one, wait=25)
    assert (again["attempt"], again["message"]) == (2, job["message"])
    # A graceful stop answers who waits, before the connection closes.
    waiting = asyncio.ensure_future(queue.claim(next_one, wait=25))
    await next_one.ping()
    stopping = asyncio.ensure_future(asyncio.to_thread(server.terminate))
    assert await waiting == []
    assert await stopping == 0


@pytest.mark.embedded
async def test_members_see_what_happens_to_jobs(shared_server: BusServer, wire: Connect, queue: Queue) -> None:
    member = await wire(shared_server, **queue.where)
    worker = await wire(shared_server)
    await queue.put(60)
    for job in await queue.claim(worker, max=100):
        await worker.request("done", claim=job["claim"])
    counts: dict[str, int] = {}

    def all_told() -> bool:
        counts.clear()
        for frame in member.frames:
            if frame.get("payload", {}).get("event") == "work":
                assert len(frame["payload"]["changes"]) <= 50
                for what, count in frame["payload"]["counts"].items():
                    counts[what] = counts.get(what, 0) + count
        return counts == {"claimed": 60, "done": 60}

    await wait_for(all_told, "all changes are told", deadline=DEADLINE)
    change = next(f for f in member.frames if f.get("payload", {}).get("event") == "work")["payload"]["changes"][0]
    assert {**change, "at": ""} == {"what": "claimed", "seq": 1, "attempt": 1, "by": worker.client_id, "at": ""}


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("command", "parameters", "code"),
    [
        ("claim", {"max": 0}, "VALIDATION_ERROR"),
        ("claim", {"max": 101}, "VALIDATION_ERROR"),
        ("claim", {"max": "many"}, "VALIDATION_ERROR"),
        ("claim", {"wait": 26}, "VALIDATION_ERROR"),
        ("claim", {"wait": -1}, "VALIDATION_ERROR"),
        ("claim", {"have": "all"}, "VALIDATION_ERROR"),
        ("claim", {"have": ["x" * 1000]}, "VALIDATION_ERROR"),
        ("claim", {"channel": "talk"}, "VALIDATION_ERROR"),
        ("claim", {"channel": "nowhere"}, "CHANNEL_NOT_FOUND"),
        ("claim", {"channel": "*"}, "VALIDATION_ERROR"),
        ("renew", {}, "VALIDATION_ERROR"),
        ("renew", {"claim": ""}, "VALIDATION_ERROR"),
        ("renew", {"claim": 5}, "VALIDATION_ERROR"),
        ("done", {"claim": "arq_clm_1_1_x"}, "CLAIM_NOT_FOUND"),
        ("done", {"claim": "arq_clm_99999999999999999999_1_x"}, "CLAIM_NOT_FOUND"),
        ("done", {"claim": "arq_clm_\u0661_1_x"}, "CLAIM_NOT_FOUND"),
        ("done", {"claim": "arq_clm_"}, "CLAIM_NOT_FOUND"),
        ("done", {"claim": "\x00"}, "VALIDATION_ERROR"),
        ("release", {"claim": "arq_clm_1_1_x", "delay": -1}, "VALIDATION_ERROR"),
        ("release", {"claim": "arq_clm_1_1_x", "delay": 1e12}, "VALIDATION_ERROR"),
        ("reject", {"claim": "arq_clm_1_1_x", "error": "x" * 2001}, "VALIDATION_ERROR"),
        ("work", {"channel": "talk"}, "VALIDATION_ERROR"),
        ("retry_job", {"seq": 2**63}, "VALIDATION_ERROR"),
        ("discard_job", {"seq": 99}, "VALIDATION_ERROR"),
    ],
)
async def test_wrong_commands_get_one_clear_error(
    shared_server: BusServer, wire: Connect, queue: Queue, command: str, parameters: dict[str, Any], code: str
) -> None:
    await queue.boss.join(queue.where["room"], "talk")
    where = queue.where if command in ("claim", "work", "retry_job", "discard_job") else {}
    error = await refused(queue.boss.request(command, **{**where, **parameters}))
    assert error["code"] == code


async def test_a_work_channel_keeps_every_message_for_one_worker(
    shared_server: BusServer, wire: Connect, queue: Queue
) -> None:
    room = queue.where["room"]
    for wrong in ({"ephemeral": True, "work": {}}, {"work": {"lease": 0.5}}, {"work": {"lease": 60, "hold": 30}}):
        error = await refused(queue.boss.request("create_channel", room=room, channel="other", **wrong))
        assert error["code"] == "VALIDATION_ERROR", wrong
    error = await refused(queue.boss.publish(stream={}, ack=True, **queue.where))
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "stream")
    # The repeat of a message is no second job.
    for _ in range(2):
        await queue.boss.publish(message_id=f"once-{room}", payload={"n": 7}, ack=True, **queue.where)
    assert numbers(await queue.claim(queue.boss, max=100)) == [7]


@pytest.mark.embedded
async def test_so_many_claims_wait_and_no_more(shared_server: BusServer, wire: Connect, queue: Queue) -> None:
    worker = await wire(shared_server)
    waiting = [asyncio.ensure_future(queue.claim(worker, wait=25)) for _ in range(17)]
    done, _ = await asyncio.wait(waiting, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
    assert [str(task.exception()).split()[0] for task in done] == ["LIMIT_REACHED"]
    for _ in range(16):
        await queue.put(1)
    claimed = [number for task in waiting if task not in done for number in numbers(await task)]
    assert claimed == [1] * 16
