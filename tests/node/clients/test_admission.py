"""Connections are counted in all, by address and by principal, and must register in time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bus.auth.permissions import Actor
from bus.node import Node
from bus.protocol.errors import TOO_MANY, UNIDENTIFIED, Closing
from tests.harness.waiting import wait_for
from tests.node.conftest import NodeClient

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor(principal="user:1", name="ann", user="ann")


def _set(node: Node, **settings: Any) -> None:
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, **settings)


def _refused(closing: pytest.ExceptionInfo[Closing], limit: str) -> bool:
    error = closing.value.error
    assert error is not None
    return closing.value.close_code == TOO_MANY and limit in str(error.details)


async def test_connections_are_bounded_in_all(node: Node) -> None:
    _set(node, connections=2)
    first, _ = NodeClient(node), NodeClient(node)
    with pytest.raises(Closing) as closing:
        NodeClient(node)
    assert _refused(closing, "connections")
    await first.disconnect()
    NodeClient(node)


async def test_connections_are_bounded_by_address(node: Node) -> None:
    _set(node, connections_per_address=1)
    first = NodeClient(node, address="203.0.113.1")
    with pytest.raises(Closing) as closing:
        NodeClient(node, address="203.0.113.1")
    assert _refused(closing, "connections_per_address")
    NodeClient(node, address="203.0.113.2")
    # Behind a proxy of this machine all clients have its address.
    for _ in range(2):
        NodeClient(node, address="127.0.0.1")
    await first.disconnect()
    NodeClient(node, address="203.0.113.1")


async def test_connections_are_bounded_by_principal(node: Node) -> None:
    _set(node, connections_per_principal=1)
    first = NodeClient(node, ANN)
    with pytest.raises(Closing) as closing:
        NodeClient(node, ANN)
    assert _refused(closing, "connections_per_principal")
    # The refused connection is not counted.
    assert list(node.clients.by_connection.values()) == [first.state]
    await first.disconnect()
    NodeClient(node, ANN)


async def test_a_connection_that_identifies_itself_later_counts_from_then_on(node: Node) -> None:
    _set(node, connections_per_principal=1)
    NodeClient(node, ANN)
    late = NodeClient(node)
    late.state.actor = ANN
    with pytest.raises(Closing):
        node.admission.identified(late.state)


async def test_the_database_counts_only_near_the_limit(node: Node) -> None:
    _set(node, connections_per_principal=10)
    client = NodeClient(node, ANN)
    assert node.admission.limit_everywhere(client.state) == 0
    node.admission.processes = 9
    assert node.admission.limit_everywhere(client.state) == 0
    node.admission.processes = 10
    assert node.admission.limit_everywhere(client.state) == 10
    assert node.admission.limit_everywhere(NodeClient(node).state) == 0


async def test_connections_of_a_principal_share_a_rate_limit(node: Node) -> None:
    _set(node, rate_limit=10.0, principal_rate_limit=5.0)
    first, second = NodeClient(node, ANN), NodeClient(node, ANN)
    shared = node.admission.rate_of(first.state)
    assert shared is not None
    assert node.admission.rate_of(second.state) is shared
    assert node.admission.rate_of(NodeClient(node).state) is None
    await first.disconnect()
    assert node.admission.rate_of(second.state) is shared
    await second.disconnect()
    assert node.admission.rate_of(NodeClient(node, ANN).state) is not shared


async def test_a_connection_that_does_not_register_is_closed(node: Node) -> None:
    _set(node, registration_deadline=0.05)
    silent, registered = NodeClient(node), NodeClient(node)
    await registered.register("alice")

    async def closed() -> bool:
        await node.admission.close_unregistered()
        return silent.closed is not None

    await wait_for(closed, "the deadline")
    assert silent.closed == (UNIDENTIFIED, "UNAUTHENTICATED")
    assert registered.closed is None
