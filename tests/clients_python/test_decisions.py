"""Decisions of people in the client: the asker waits over everything, the first answer counts, and both clients do the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus import errors, sync
from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

from .conftest import Connect

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded

WAIT = 30.0


async def waiting_for(bus: arqonbus.Bus, address: str, count: int = 1) -> list[arqonbus.Decision]:
    """The decisions of a channel that wait for this client, the newest first, once there are so many."""

    rows: list[arqonbus.Decision] = []

    async def there() -> bool:
        rows[:] = [row async for row in bus.list_decisions(address, to_decide=True)]
        return len(rows) >= count

    await wait_for(there, f"{count} questions wait in {address}")
    return rows


async def test_the_asker_gets_what_a_person_decided(client: Connect, admin_token: str, fresh_room: str) -> None:
    asker, person = await client(), await client(token=admin_token)
    address = f"{fresh_room}:approvals"
    asked = asyncio.ensure_future(
        asker.decide_by_human(
            address, key="refund-7", title="Refund order 7?", action="refund", args={"amount": 20},
            allow=["approve", "edit", "reject"], schema={"properties": {"amount": {"maximum": 50}}}, timeout=WAIT,
        )
    )  # fmt: skip
    [waiting] = await waiting_for(person, address)
    assert (waiting.title, waiting.args, waiting.asker, waiting.may_decide) == (
        "Refund order 7?", {"amount": 20}, asker.client_id, True,
    )  # fmt: skip
    with pytest.raises(errors.ValidationFailed):
        await person.decide(waiting, "edit", args={"amount": 99})
    with pytest.raises(errors.Forbidden):
        await asker.decide(waiting, "approve")
    await person.decide(waiting, "edit", args={"amount": 15}, comment="only the rest")
    decision = await asked
    assert (decision.state, decision.args, decision.asked_args) == ("edited", {"amount": 15}, {"amount": 20})
    assert decision.yes
    assert decision.comment == "only the rest"
    # Until it is used, the same question has this answer, also in the next process of the asker.
    again = await asker.decide_by_human(
        address, key="refund-7", title="Refund order 7?", action="refund", args={"amount": 20},
        allow=["approve", "edit", "reject"],
    )  # fmt: skip
    assert again.id == decision.id
    assert (await asker.consume_decision(decision)).consumed_at is not None
    with pytest.raises(errors.AlreadyUsed):
        await asker.consume_decision(decision)
    with pytest.raises(ValueError, match="not an address"):
        await asker.request_decision("", key="k", title="t", action="a")


async def test_a_no_is_the_answer_again_and_a_request_is_refused(
    client: Connect, admin_token: str, fresh_room: str
) -> None:
    asker, person = await client(), await client(token=admin_token)
    address = f"{fresh_room}:approvals"
    question: dict[str, Any] = {
        "key": "drop",
        "title": "Drop the table?",
        "action": "drop",
        "args": {"table": "orders"},
    }
    asked = await asker.request_decision(address, **question)
    await person.decide(asked, "reject", comment="never")
    with pytest.raises(errors.DecisionEnded):
        await asker.cancel_decision(asked)
    with pytest.raises(errors.RejectedBefore) as refused:
        await asker.request_decision(address, **question)
    assert refused.value.decision == asked.id
    decision = await asker.decide_by_human(address, **question)
    assert (decision.id, decision.state, decision.yes, decision.comment) == (asked.id, "rejected", False, "never")
    with pytest.raises(errors.DecisionNotFound):
        await asker.await_decision("arq_dec_nobody", wait=0)
    with pytest.raises(TimeoutError, match="Nobody decided"):
        await asker.decide_by_human(address, **{**question, "key": "later", "args": {}}, timeout=0.1)
    assert [row.state async for row in asker.list_decisions(address, mine=True)] == ["pending", "rejected"]


async def test_asker_server_and_decider_may_all_restart(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    token = server.create_token("person", admin=True)
    identity, address = tmp_path / "agent.identity", "desk:approvals"
    question: dict[str, Any] = {"key": "pay", "title": "Pay 7?", "action": "pay", "args": {"invoice": 7}, "timeout": 60}
    async with (
        arqonbus.connect(server.url, identity=identity) as asker,
        arqonbus.connect(server.url, token=token) as person,
    ):
        asked = asyncio.ensure_future(asker.decide_by_human(address, **question))
        other = asyncio.ensure_future(asker.decide_by_human(address, **{**question, "key": "other"}))
        waiting = {row.key: row for row in await waiting_for(person, address, 2)}
        server.restart()
        await person.decide(waiting["pay"], "approve")
        assert (await asked).state == "approved"  # This wait went on over the restart.
        other.cancel()
    # The agent is away while somebody decides.
    async with arqonbus.connect(server.url, token=token) as person:
        await person.decide(waiting["other"], "approve")
    async with arqonbus.connect(server.url, identity=identity) as asker:
        decision = await asker.decide_by_human(address, **{**question, "key": "other"})
    assert (decision.id, decision.state) == (waiting["other"].id, "approved")


def test_the_blocking_client_does_the_same(shared_server: BusServer, admin_token: str, fresh_room: str) -> None:
    address = f"{fresh_room}:approvals"
    with sync.connect(shared_server.url) as asker, sync.connect(shared_server.url, token=admin_token) as person:
        asked = asker.request_decision(address, key="k", title="May I?", action="go", allow=["respond", "approve"])
        assert [row.id for row in person.list_decisions(address, to_decide=True)] == [asked.id]
        person.decide(asked, "respond", comment="Ask Mia.")
        answer = asker.decide_by_human(address, key="k", title="May I?", action="go", allow=["respond", "approve"])
        assert (answer.id, answer.state, answer.comment) == (asked.id, "responded", "Ask Mia.")
        assert asker.await_decision(asked, wait=0).by
        assert asker.consume_decision(asked).consumed_at
        other = asker.request_decision(address, key="o", title="And now?", action="go")
        assert asker.cancel_decision(other).state == "cancelled"
