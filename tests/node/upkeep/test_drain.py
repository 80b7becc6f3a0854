"""A graceful stop loses nothing that was accepted, and leaves no presence behind."""

from __future__ import annotations

import asyncio
import logging

import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from bus.models import Client, Message
from bus.models import Node as NodeRow
from bus.node import Node
from bus.node.threads import DatabaseThreads
from bus.node.upkeep import drain
from bus.protocol.errors import RESTART
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient, entry

pytestmark = pytest.mark.django_db(transaction=True)


async def test_accepted_work_is_committed(node: Node, log: Log) -> None:
    node.traffic.in_progress = 1
    finishing = asyncio.ensure_future(drain.finish_work(node.traffic, node.publisher))
    # A frame that is still worked on publishes yet.
    node.log.append(entry(log.ref, "last"))
    node.traffic.in_progress = 0
    await finishing
    assert await node.runtime.run_writer(lambda: Message.objects.filter(channel_id=log.ref.id).count()) == 1


async def test_sockets_are_closed_and_waited_for(node: Node) -> None:
    clients = [NodeClient(node) for _ in range(3)]
    closing = asyncio.ensure_future(drain.close_sockets(node.clients, node.hub, node.log, spread=5.0))
    await wait_for(lambda: all(client.closed for client in clients), "all are closed")
    assert not closing.done()
    assert {client.closed for client in clients} == {(RESTART, "RESTARTING")}
    for client in clients:
        await client.disconnect(RESTART)
    await closing


async def test_clients_come_back_one_after_another(node: Node) -> None:
    waits: list[float] = []
    clients = [NodeClient(node) for _ in range(4)]
    for client in clients:
        client.state.drop = lambda _, error: waits.append(error.retry_after)  # type: ignore[union-attr,arg-type]
    await drain.send_away([client.state for client in clients], 4.0)
    assert waits == [0.5, 1.5, 2.5, 3.5]


async def test_presence_is_cleared_and_the_others_are_notified(node: Node, log: Log) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await client.join(str(log.ref.address))
    await drain.clear_presence(node.runtime, node.announcer, node.notices)
    assert (await client.event("client_left"))["participants"] == 0
    assert await node.runtime.run_writer(lambda: Client.objects.filter(node__isnull=False).count()) == 0
    assert await node.runtime.run_writer(NodeRow.objects.count) == 0


async def test_a_step_that_takes_too_long_is_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "arqonbus.node"):
        await drain.within(0.01, asyncio.Event().wait(), "waiting")  # type: ignore[arg-type]
    assert [record.event for record in caplog.records] == ["drain_timeout"]  # type: ignore[attr-defined]


async def test_threads_close_their_connections() -> None:
    threads = DatabaseThreads(2, "test")
    loop = asyncio.get_running_loop()

    def use() -> BaseDatabaseWrapper:
        connection.ensure_connection()
        return connections["default"]

    used = await loop.run_in_executor(threads, use)
    assert used.connection is not None
    await drain.all_done(threads.end())
    assert used.connection is None


async def test_a_drained_node_takes_nothing_more(node: Node) -> None:
    begun: list[bool] = []
    node.on_drain.append(lambda: begun.append(node.traffic.draining))
    await node.stop()
    await node.stop()
    assert begun == [True]
    with pytest.raises(RuntimeError):
        await node.runtime.run_writer(lambda: None)
