"""Housekeeping makes the presence rows match the connections, and deletes what is beyond the retention."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone

from bus.auth.permissions import SYSTEM
from bus.models import Channel, Client, Message, Stream
from bus.models import Node as NodeRow
from bus.node import Node
from bus.node.upkeep import housekeeping
from bus.protocol.errors import RESTART, TAKEN_OVER
from bus.protocol.names import Address
from tests.log.streams import bench, opening, write
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_connection_without_its_row_comes_back(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await node.runtime.run_writer(lambda: Client.objects.update(node=None, connection_id=""))
    await node.housekeeping.compare_presence()
    # The row may only be late.
    assert client.closed is None
    await node.housekeeping.compare_presence()
    assert client.closed == (RESTART, "RESTARTING")


async def test_a_connection_whose_client_is_elsewhere_ends_for_good(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")

    def take_over() -> None:
        other = NodeRow.objects.create(id="f" * 16, host="elsewhere", pid=1, version="1.0")
        row = Client.objects.get(client_id="alice")
        row.node, row.connection_id, row.claims = other, "newer", row.claims + 1
        row.save()

    await node.runtime.run_writer(take_over)
    for _ in range(2):
        await node.housekeeping.compare_presence()
    assert client.closed == (TAKEN_OVER, "TAKEN_OVER")


async def test_a_row_without_its_connection_is_deleted(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")
    del node.clients.by_connection[client.state.connection_id]
    for _ in range(2):
        assert await node.runtime.run_writer(lambda: Client.objects.filter(node__isnull=False).count()) == 1
        await node.housekeeping.compare_presence()
    assert await node.runtime.run_writer(lambda: Client.objects.filter(node__isnull=False).count()) == 0


async def test_messages_beyond_the_retention_are_deleted_step_by_step(
    node: Node, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "PRUNE_STEP", 2)
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, retention_count=3)
    await log.append(*map(str, range(10)))
    await node.housekeeping.tidy()
    left = await node.runtime.run_writer(
        lambda: list(Message.objects.filter(channel_id=log.ref.id).order_by("seq").values_list("seq"))
    )
    assert left == [(8,), (9,), (10,)]


async def test_idle_channels_and_streams_go(node: Node, fresh_room: str) -> None:
    settings = node.runtime.settings
    node.runtime.settings = msgspec.structs.replace(settings, channel_idle=10.0, prune_interval=0.001)
    address = Address(fresh_room, "idle")
    ref = await node.channels.resolve(address, SYSTEM)
    await node.streams.open([ref])
    long_ago = timezone.now() - timedelta(hours=1)
    await node.runtime.run_writer(
        lambda: Channel.objects.filter(id=ref.id).update(created_at=long_ago, touched_at=long_ago)
    )
    await node.housekeeping.tidy()
    assert await node.runtime.run_writer(lambda: Channel.objects.filter(id=ref.id).exists()) is False


async def test_what_is_not_due_is_left(node: Node, log: Log) -> None:
    await node.housekeeping.tidy()
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, retention_count=1)
    await log.append("one", "two")
    assert await node.housekeeping.tidy() <= housekeeping.INTERVAL
    assert await node.runtime.run_writer(lambda: Message.objects.filter(channel_id=log.ref.id).count()) == 2


async def test_after_a_full_sweep_the_next_one_follows_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.services.streams.SWEPT", 2)

    def lose() -> None:
        channel = bench()
        write(*(opening(channel.id, f"arq_{n}", rest=True) for n in range(3)))
        Stream.objects.update(touched_at=timezone.now() - timedelta(days=1))
        NodeRow.objects.update(started_at=timezone.now() - timedelta(days=1))

    await node.runtime.run_writer(lose)
    waits = [await node.housekeeping.end_overdue() for _ in range(2)]
    assert waits == [0.0, housekeeping.OVERDUE_LOOK]
    assert await node.runtime.run_writer(Stream.objects.filter(state="open").count) == 0
