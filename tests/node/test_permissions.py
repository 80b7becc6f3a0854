"""The table's answers are remembered by the connection until the table changes."""

from __future__ import annotations

import pytest

from bus.auth.permissions import HISTORY, JOIN, PUBLISH, SYSTEM, Actor, table
from bus.node import Node
from bus.protocol.errors import BusError
from bus.services import grants
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def test_an_answer_is_good_until_the_rules_change(node: Node, log: Log) -> None:
    client = NodeClient(node)
    assert node.permissions.may(client.state, PUBLISH, log.ref)
    assert client.state.allowed == {(PUBLISH, log.ref.id): True}
    rule = {"subject": "anonymous", "action": "publish", "pattern": str(log.ref.address), "allow": False}

    def forbid() -> None:
        grants.create(SYSTEM, rule, door="command")
        table().refresh()

    await node.runtime.run_writer(forbid)
    assert not node.permissions.may(client.state, PUBLISH, log.ref)
    assert node.permissions.may(client.state, JOIN, log.ref)
    with pytest.raises(BusError, match="FORBIDDEN"):
        node.permissions.check(client.state, PUBLISH, log.ref)


async def test_the_memory_of_a_connection_is_bounded(node: Node, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.node.permissions.REMEMBERED", 2)
    client = NodeClient(node)
    for action in (JOIN, PUBLISH, HISTORY):
        node.permissions.may(client.state, action, log.ref)
    assert client.state.allowed == {(HISTORY, log.ref.id): True}


async def test_a_refusal_says_what_the_scopes_lack(node: Node, log: Log) -> None:
    client = NodeClient(node, Actor(principal="token:1", scopes=frozenset({"join"})))
    assert node.permissions.may(client.state, JOIN, log.ref)
    assert node.permissions.refusal(client.state, PUBLISH, log.ref).code == "FORBIDDEN"
