"""A closed connection leaves nothing behind, whatever the database does meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from bus import signals
from bus.models import Client, Membership
from bus.node import Node
from bus.protocol.errors import BusError, ErrorCode
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _connected(node: Node) -> set[str]:
    return await node.runtime.run_writer(
        lambda: set(Client.objects.filter(node__isnull=False).values_list("client_id", flat=True))
    )


async def test_the_members_that_are_left_are_notified(node: Node, log: Log) -> None:
    leaving, staying = NodeClient(node), NodeClient(node)
    for client, name in ((leaving, "alice"), (staying, "bob")):
        await client.register(name)
        await client.join(str(log.ref.address))
    await leaving.disconnect()
    left = await staying.frame(
        lambda frame: frame.get("payload", {}).get("event") == "client_left" and frame["channel"] == "hall",
        "client_left",
    )
    assert (left["payload"]["client_id"], left["payload"]["participants"]) == ("alice", 1)
    assert await _connected(node) == {"bob"}
    assert node.clients.by_id.keys() == {"bob"}
    assert leaving.state not in {member for stream in node.hub.streams.values() for member in stream.members}


async def test_a_departure_that_the_database_does_not_take_is_written_later(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = NodeClient(node)
    await client.register("alice")
    release = node.presence_tables.release

    async def away(*_: Any) -> Any:
        raise BusError(ErrorCode.UNAVAILABLE)

    monkeypatch.setattr(node.presence_tables, "release", away)
    await client.disconnect()
    await node.departures.write_again()
    assert [departure.card["client_id"] for departure in node.departures.unwritten] == ["alice"]
    monkeypatch.setattr(node.presence_tables, "release", release)
    await node.departures.write_again()
    assert not node.departures.unwritten
    assert await _connected(node) == set()


async def test_a_departure_that_was_announced_is_not_announced_again(node: Node, log: Log) -> None:
    leaving, staying = NodeClient(node), NodeClient(node)
    for client, name in ((leaving, "alice"), (staying, "bob")):
        await client.register(name)
        await client.join(str(log.ref.address))
    node.departures.announced.add(leaving.state.connection_id)
    await leaving.disconnect()
    assert not node.departures.announced
    await log.publish("after")
    await staying.message("after")
    assert "client_left" not in str(staying.frames)


async def test_the_signal_names_the_code_and_hides_a_private_room(node: Node) -> None:
    told: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        told.append(facts)

    signals.client_disconnected.connect(receive)
    try:
        client = NodeClient(node)
        await client.register("alice")
        await client.disconnect(4013)
        await NodeClient(node).disconnect()
    finally:
        signals.client_disconnected.disconnect(receive)
    assert [(facts["client"]["client_id"], facts["code"], facts["private"]) for facts in told] == [
        ("alice", 4013, False)
    ]


async def test_a_connection_that_never_registered_leaves_no_row(node: Node) -> None:
    client = NodeClient(node)
    await client.disconnect()
    assert not node.clients.by_connection
    assert await node.runtime.run_writer(Membership.objects.count) == 0
