"""Claims wait until a job is ready for them, and none is forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bus.auth.identity import ANONYMOUS
from bus.node.client import ClientState
from bus.node.jobs.waits import MOST, Waits
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.state import State
from bus.shapes import Claim, Claims

pytestmark = pytest.mark.pure

CHANNEL = 7
LONG = 30.0


class Queue:
    """A channel with some ready jobs. An answer comes when it is let go."""

    def __init__(self, ready: int = 0) -> None:
        self.ready = ready
        self.asked = 0
        self.go_on: asyncio.Event | None = None

    async def ask(self) -> Claims:
        """Take one job."""
        self.asked += 1
        taken = min(self.ready, 1)
        self.ready -= taken
        job = Claim(claim="c", attempt=1, lease=1.0, hold=1.0, message=msgspec.Raw(b"{}"))
        answer = Claims(claims=[job] * taken, ready=self.ready)
        if self.go_on is not None:
            await self.go_on.wait()
        else:
            await asyncio.sleep(0)
        return answer


def a_client() -> ClientState:
    return ClientState("c", ANONYMOUS)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def jobs(answer: Claims) -> int:
    return len(answer.claims)


async def test_a_claim_without_a_wait_asks_once() -> None:
    waits, queue = Waits(asyncio.get_running_loop()), Queue()
    assert jobs(await waits.claim(a_client(), CHANNEL, queue.ask, 0)) == 0
    assert (queue.asked, waits.waiting, waits.looked_for(CHANNEL)) == (1, 0, False)


async def test_as_many_claims_wake_as_jobs_became_ready_and_the_oldest_first() -> None:
    waits, queue = Waits(asyncio.get_running_loop()), Queue()
    claims = [asyncio.ensure_future(waits.claim(a_client(), CHANNEL, queue.ask, LONG)) for _ in range(3)]
    await turns()
    assert (waits.waiting, waits.channel_ids) == (3, [CHANNEL])
    queue.ready = 2
    waits.ready([(CHANNEL, 2), (CHANNEL + 1, 5)])
    assert [jobs(await claim) for claim in claims[:2]] == [1, 1]
    assert (queue.asked, claims[2].done(), waits.waiting) == (5, False, 1)
    waits.end()
    assert jobs(await claims[2]) == 0
    assert not waits.looked_for(CHANNEL)


async def test_a_job_that_is_ready_while_the_database_answers_is_not_missed() -> None:
    waits, queue = Waits(asyncio.get_running_loop()), Queue()
    queue.go_on = asyncio.Event()
    claims = [asyncio.ensure_future(waits.claim(a_client(), CHANNEL, queue.ask, LONG)) for _ in range(2)]
    await turns()
    # Both answers are on their way, and say that there is none.
    queue.ready = 2
    waits.ready([(CHANNEL, 2)])
    queue.go_on.set()
    assert [jobs(await claim) for claim in claims] == [1, 1]
    assert queue.asked == 4


async def test_jobs_that_an_answer_leaves_are_offered_to_the_others() -> None:
    waits, queue = Waits(asyncio.get_running_loop()), Queue()
    claims = [asyncio.ensure_future(waits.claim(a_client(), CHANNEL, queue.ask, LONG)) for _ in range(3)]
    await turns()
    queue.ready = 3
    waits.ready([(CHANNEL, 1)])
    assert [jobs(await claim) for claim in claims] == [1, 1, 1]


async def test_a_wait_ends_at_its_time_and_with_its_connection() -> None:
    waits, queue, client = Waits(asyncio.get_running_loop()), Queue(), a_client()
    assert jobs(await waits.claim(client, CHANNEL, queue.ask, 0.01)) == 0
    waiting = asyncio.ensure_future(waits.claim(client, CHANNEL, queue.ask, LONG))
    other = asyncio.ensure_future(waits.claim(a_client(), CHANNEL, queue.ask, LONG))
    await turns()
    client.step(State.CLOSED)
    waits.left(client)
    assert jobs(await waiting) == 0
    assert waits.waiting == 1
    # An answer that comes after the end of its connection begins no wait.
    assert jobs(await waits.claim(client, CHANNEL, queue.ask, LONG)) == 0
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)
    assert (waits.waiting, waits.looked_for(CHANNEL)) == (0, False)


async def test_so_many_claims_of_a_client_wait_and_no_more() -> None:
    waits, queue, client = Waits(asyncio.get_running_loop()), Queue(), a_client()
    claims = [asyncio.ensure_future(waits.claim(client, CHANNEL + n, queue.ask, LONG)) for n in range(MOST)]
    await turns()
    with pytest.raises(BusError) as refused:
        await waits.claim(client, CHANNEL, queue.ask, LONG)
    assert refused.value.code == ErrorCode.LIMIT_REACHED
    assert jobs(await waits.claim(client, CHANNEL, queue.ask, 0)) == 0
    waits.end()
    await asyncio.gather(*claims)
    # The process stops, so nothing waits any more.
    assert jobs(await waits.claim(client, CHANNEL, queue.ask, LONG)) == 0


async def test_an_error_of_the_database_ends_the_claim() -> None:
    waits = Waits(asyncio.get_running_loop())

    async def ask() -> Any:
        raise BusError(ErrorCode.UNAVAILABLE)

    with pytest.raises(BusError):
        await waits.claim(a_client(), CHANNEL, ask, LONG)
    assert not waits.looked_for(CHANNEL)
