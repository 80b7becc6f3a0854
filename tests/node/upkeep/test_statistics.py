"""The figures of a node are those of its parts."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bus import signals
from bus.node import Node
from tests.node.conftest import Log, NodeClient, entry

pytestmark = pytest.mark.django_db(transaction=True)


async def test_figures_come_from_the_parts(node: Node, log: Log) -> None:
    before = node.statistics.figures()
    client = NodeClient(node)
    await client.register("alice")
    await client.join(str(log.ref.address))
    NodeClient(node)
    node.log.append(entry(log.ref, "one"))
    await node.log.drained()
    await client.message("one")
    node.traffic.received += 3
    node.traffic.received_bytes += 100
    after = node.statistics.figures()
    assert (after["connections"], after["clients"]) == (2, 1)
    assert after["messages_published"] - before["messages_published"] == 1
    assert after["delivered"] > before["delivered"]
    assert (after["frames_received"], after["received_bytes"]) == (3, 100)
    assert after["streams"] == len(node.hub.streams)
    assert after["memberships"] == sum(len(stream.members) for stream in node.hub.streams.values())
    assert after["store_available"] is True
    assert after["log_queue"] == 0


async def test_the_log_line_names_the_figures(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    await NodeClient(node).register("alice")
    with caplog.at_level(logging.INFO, "arqonbus.stats"):
        # The first time is only the beginning of the interval.
        assert await node.statistics.report() == node.runtime.settings.stats_interval
        assert not caplog.records
        await node.statistics.report()
    (record,) = caplog.records
    assert (record.event, record.clients, record.clients_here) == ("stats", 1, 1)  # type: ignore[attr-defined]


async def test_the_signal_counts_no_messages_of_the_server_itself(node: Node) -> None:
    told: list[dict[str, Any]] = []

    def receive(stats: dict[str, Any], **_: Any) -> None:
        told.append(stats)

    signals.server_stats.connect(receive)
    try:
        node.announcer.published, node.announcer.own = 10, 10
        await node.statistics.announce()
        node.announcer.published += 5
        await node.statistics.announce()
    finally:
        signals.server_stats.disconnect(receive)
    assert told[0]["messages_per_second"] == 0
    assert told[1]["messages_per_second"] > 0
    assert told[1]["process"]["messages_published"] == 15


async def test_latency_is_that_since_the_last_announcement(node: Node, log: Log) -> None:
    node.log.append(entry(log.ref, "one"))
    await node.log.drained()
    assert node.statistics._latency()["publish_p50_ms"] is not None
    assert node.statistics._latency()["publish_p50_ms"] is None
