"""The claims of one connection, each of which says what the client has."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bus import services
from bus.models import Channel, Job, Room
from bus.node import Node
from bus.protocol.names import Address
from bus.protocol.registration import Resume
from bus.services.work import Claim, Done, Operation, Worker
from tests.harness.waiting import wait_for
from tests.node.conftest import NodeClient

pytestmark = [pytest.mark.embedded, pytest.mark.django_db(transaction=True)]

JOBS = Address("jobs", "new")


@pytest.fixture
async def client(node: Node) -> NodeClient:
    """A client beside a work channel with two jobs, which are not due yet."""

    def prepare() -> None:
        Channel.objects.create(room=Room.objects.create(name="jobs"), name="new", work={"lease": 30.0, "hold": 60.0})
        for _ in range(2):
            services.publish(JOBS, {}, deliver_at=timezone.now() + timedelta(hours=1))

    await node.runtime.run_writer(prepare)
    made = NodeClient(node)
    await made.register("ada")
    return made


async def let_one_be_due(node: Node) -> None:
    """Make a job due, of which no notification tells."""

    def change() -> None:
        job = Job.objects.filter(due_at__gt=timezone.now()).order_by("id")[0]
        Job.objects.filter(pk=job.pk).update(due_at=timezone.now())

    await node.runtime.run_writer(change)


async def test_a_claim_that_waits_does_not_get_what_another_one_got_meanwhile(node: Node, client: NodeClient) -> None:
    waiting = asyncio.create_task(node.work.claim(client.state, JOBS, 1, 25, ()))

    async def waits() -> bool:
        return node.work.waiting == 1

    await wait_for(waits, "the claim waits")
    await let_one_be_due(node)
    (got,) = (await node.work.claim(client.state, JOBS, 1, 0)).claims
    (channel_id,) = node.work._waits.channel_ids
    node.work.wake_all(channel_id)
    # It stands in the queue of the writing thread behind the one that was woken.
    await node.work.claim(client.state, JOBS, 1, 0)
    node.work.drain()
    assert (await waiting).claims == []
    assert got.attempt == 1


async def test_what_one_answer_brought_is_in_no_other_answer_on_the_connection(node: Node, client: NodeClient) -> None:
    await let_one_be_due(node)
    (got,) = (await node.work.claim(client.state, JOBS, 1, 0, ())).claims
    # The client sent this before it knew the answer.
    assert (await node.work.claim(client.state, JOBS, 1, 0, ())).claims == []
    await let_one_be_due(node)
    # Both look at the same time, before either has an answer.
    first, second = await asyncio.gather(*(node.work.claim(client.state, JOBS, 1, 0, ()) for _ in range(2)))
    (other,) = [*first.claims, *second.claims]
    assert other.claim != got.claim
    # A new connection of the client has heard of nothing.
    await client.disconnect()
    again = NodeClient(node)
    token = (await client.event("registered"))["resume_token"]
    await again.register("ada", resume=Resume(token=token))
    answer = await node.work.claim(again.state, JOBS, 5, 0, ())
    assert [one.claim for one in answer.claims] == [got.claim, other.claim]
    await node.work.carry_out(Done(got.claim, None, Worker("ada")), again.state)
    assert list(node.work._heard[again.state]) == [other.claim]


async def test_jobs_whose_answer_comes_as_its_caller_is_cancelled_are_out_again(
    node: Node, client: NodeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = node.work._operations
    submit = operations.submit

    def submitted(operation: Operation) -> asyncio.Future[Any]:
        answer = submit(operation)
        if isinstance(operation, Claim):
            # It runs before the step in which the claim reads its answer.
            answer.add_done_callback(lambda _: claiming.cancel())
        return answer

    await let_one_be_due(node)
    monkeypatch.setattr(operations, "submit", submitted)
    claiming = asyncio.create_task(node.work.claim(client.state, JOBS, 1, 0))
    with pytest.raises(asyncio.CancelledError):
        await claiming
    monkeypatch.undo()
    (job,) = (await node.work.claim(client.state, JOBS, 1, 25)).claims
    assert job.attempt == 1
