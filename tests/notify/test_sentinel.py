"""Redis with Sentinel: after a failover the processes meet at the new master."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from bus.notify.layer import links_over
from bus.notify.layer_broker import LayerBroker
from bus.notify.messages import ChannelChanged, Notification
from tests.harness.backends import Backends
from tests.harness.processes import ManagedProcess
from tests.harness.redis import RedisServer, redis_binary
from tests.harness.waiting import free_port, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]


@pytest.fixture
def servers(backends: Backends) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A master, and its replica."""
    master, replica = backends.new_redis(), backends.new_redis()
    assert replica.command("REPLICAOF", "127.0.0.1", str(master.port)) == b"+OK\r\n"
    yield master, replica
    for redis in (master, replica):
        backends.release(redis)


@pytest.fixture
def sentinel(tmp_path: Path, servers: tuple[RedisServer, RedisServer]) -> Iterator[int]:
    """The port of a Sentinel that alone decides on a failover."""
    master, _ = servers
    port, config = free_port(), tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor bus 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds bus 500\nsentinel failover-timeout bus 5000\n"
    )
    process = ManagedProcess(
        [redis_binary(), str(config), "--sentinel"], log_path=tmp_path / "sentinel.log", cwd=tmp_path
    )
    process.start()
    process.wait_for_log("+slave", deadline=30)
    yield port
    process.kill()


@pytest.mark.parametrize("layer", [RedisChannelLayer, RedisPubSubChannelLayer])
async def test_after_a_failover_the_processes_meet_at_the_new_master(
    servers: tuple[RedisServer, RedisServer],
    sentinel: int,
    layer: type[RedisChannelLayer] | type[RedisPubSubChannelLayer],
) -> None:
    received: list[list[Notification]] = [[], []]
    hosts = [{"sentinels": [("127.0.0.1", sentinel)], "master_name": "bus"}]
    brokers = [LayerBroker(links_over(layer(hosts=hosts)), heard.append, buffer=1 << 20) for heard in received]
    for broker in brokers:
        await broker.start()
    brokers[0].send(ChannelChanged("lab", "before"))
    await wait_for(lambda: ChannelChanged("lab", "before") in received[1], "it crosses")
    master, replica = servers
    await asyncio.to_thread(master.kill)
    number = 0

    async def crosses() -> bool:
        nonlocal number
        number += 1
        sent = ChannelChanged("lab", f"try {number}")
        brokers[0].send(sent)
        await asyncio.sleep(0.2)
        return sent in received[1]

    await wait_for(crosses, "messages cross again", deadline=60)
    await wait_for(lambda: all(broker.connected for broker in brokers), "both are connected", deadline=30)
    assert b"role:master" in await asyncio.to_thread(replica.command, "INFO", "replication")
    brokers[1].send(ChannelChanged("lab", "back"))
    await wait_for(lambda: ChannelChanged("lab", "back") in received[0], "and back")
    for broker in brokers:
        await broker.stop()
