"""The heartbeat tells the database that the process lives, and acts where other processes thought otherwise."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.db import OperationalError
from django.utils import timezone

from bus.models import Client
from bus.models import Node as NodeRow
from bus.node import Node
from bus.protocol.errors import RESTART
from bus.services import nodes as node_service
from bus.services import totals
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


def _age(node_id: str, seconds: float) -> None:
    NodeRow.objects.filter(id=node_id).update(heartbeat_at=timezone.now() - timedelta(seconds=seconds))


async def _totals(node: Node) -> int:
    return (await node.runtime.run_writer(totals.stats)).total_messages


async def test_a_heartbeat_writes_the_figures_and_renews_the_sign_of_life(node: Node) -> None:
    await node.runtime.run_writer(_age, node.runtime.node_id, 300.0)
    await NodeClient(node).register("alice")
    assert await node.heartbeat.beat() == node.runtime.settings.node_heartbeat
    row = await node.runtime.run_writer(lambda: NodeRow.objects.get(id=node.runtime.node_id))
    assert row.stats["clients"] == 1
    assert await node.runtime.run_writer(node_service.alive_ids) == {node.runtime.node_id}


async def test_ephemeral_messages_are_counted_once(node: Node) -> None:
    node.announcer.passed = 7
    before = await _totals(node)
    await node.heartbeat.beat()
    await node.heartbeat.beat()
    assert (await _totals(node) - before, node.announcer.passed) == (7, 0)


async def test_a_process_that_was_given_up_sends_its_clients_back(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await node.runtime.run_writer(node_service.stopped, node.runtime.node_id)
    await node.heartbeat.beat()
    assert client.closed == (RESTART, "RESTARTING")
    # The others have announced the departure already.
    assert node.departures.announced == {client.state.connection_id}
    await client.disconnect(RESTART)
    assert node.departures.announced == set()
    assert await node.runtime.run_writer(node_service.alive_ids) == {node.runtime.node_id}


async def test_clients_of_a_dead_process_are_swept_once_the_own_heartbeats_are_regular(node: Node, log: Log) -> None:
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, node_timeout=0.2)
    alice = NodeClient(node)
    await alice.register("alice")
    await alice.join(str(log.ref.address))

    def die() -> None:
        node_service.started("f" * 16, "elsewhere", 1, "1.0")
        row = Client.objects.get(client_id="alice")
        ghost = Client.objects.create(client_id="ghost", node_id="f" * 16, connection_id="c")
        ghost.memberships.create(channel_id=log.ref.id)
        assert row.node_id == node.runtime.node_id
        _age("f" * 16, 300.0)

    await node.runtime.run_writer(die)
    await node.heartbeat.beat()
    assert len(await node.runtime.run_writer(lambda: list(NodeRow.objects.all()))) == 2

    async def swept() -> bool:
        await node.heartbeat.beat()
        return await node.runtime.run_writer(NodeRow.objects.count) == 1

    await wait_for(swept, "the dead process is swept")
    assert (await alice.event("client_left"))["client_id"] == "ghost"


async def test_the_last_activity_of_clients_is_written(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await node.runtime.run_writer(lambda: Client.objects.update(last_activity=timezone.now() - timedelta(days=1)))
    client.state.touched = True
    await node.heartbeat.beat()
    row = await node.runtime.run_writer(lambda: Client.objects.get(client_id="alice"))
    assert row.last_activity is not None
    assert row.last_activity > timezone.now() - timedelta(hours=1)
    assert not client.state.touched


async def test_two_failures_in_a_row_are_an_outage(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> bool:
        raise OperationalError("the server closed the connection")

    with monkeypatch.context() as patch:
        patch.setattr(node_service, "beat", away)
        for available in (True, False):
            with pytest.raises(OperationalError):
                await node.heartbeat.beat()
            assert node.log.available is available
    await node.heartbeat.beat()
    assert node.log.available


async def test_processes_are_counted_where_a_limit_is_shared_among_them(node: Node) -> None:
    await node.runtime.run_writer(node_service.started, "f" * 16, "elsewhere", 1, "1.0")
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, connections_per_principal=0)
    await node.heartbeat.beat()
    assert node.admission.processes == 1
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, connections_per_principal=5)
    await node.heartbeat.beat()
    assert node.admission.processes == 2
