"""P15, P2: the channel layer is only a hint. Whatever happens to it, every member gets every message once and in order."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.redis import RedisServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.traffic import Crowd

pytestmark = pytest.mark.cluster


async def two(start_server: StartServer, **env: str) -> list[BusServer]:
    """Two processes on one storage."""
    return list(await asyncio.gather(*(asyncio.to_thread(start_server, env=env) for _ in range(2))))


def layer_lines(server: BusServer) -> list[str]:
    """What the server said about its layer."""
    return [line for line in server.log().splitlines() if "layer" in line.lower() or "redis" in line.lower()]


async def test_redis_is_killed_for_three_seconds_under_load_and_nobody_misses_or_doubles_a_message(
    start_server: StartServer, storage: Storage
) -> None:
    assert storage.redis is not None
    servers = await two(start_server)
    crowd = Crowd(servers)
    try:
        await crowd.join(100, "lab:bench", name="member")
        publishers = await crowd.join(8, "lab:door", name="publisher")
        async with crowd.publishing(publishers, "lab:bench", rate=60):
            await crowd.until_acked(60)
            await asyncio.to_thread(storage.redis.kill)
            crowd.recorder.note("redis killed")
            await asyncio.sleep(3)  # the fault itself
            await crowd.until_acked(1)
            await asyncio.to_thread(storage.redis.start)
            crowd.recorder.note("redis is back")
            await crowd.until_acked(60)
        await crowd.judge(storage)
    finally:
        await crowd.stop()
    for server in servers:
        assert "Traceback" not in server.log()
        assert len(layer_lines(server)) <= 5, layer_lines(server)
    # Nobody's connection was touched.
    assert all(member.connections == 1 for member in crowd.members)


@pytest.mark.chaos
async def test_ten_of_thirty_seconds_without_redis_delay_no_ack_and_lose_nothing(
    start_server: StartServer, storage: Storage
) -> None:
    """The promise with its figures: they are about time, which is why this is not in `make test`."""
    redis = storage.redis
    assert redis is not None
    servers = await two(start_server)
    crowd = Crowd(servers)
    waits: dict[str, list[float]] = {"before": [], "away": [], "after": []}
    phase = "before"

    async def publish(number: int) -> None:
        publisher = publishers[number]
        while phase != "over":
            began, during = time.monotonic(), phase
            await publisher.publish("x", room="lab", channel="bench")
            waits[during].append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    try:
        await crowd.join(100, "lab:bench", name="member")
        publishers = await crowd.join(6, "lab:door", name="publisher")
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(publish(number))
            await asyncio.sleep(10)
            phase = "away"
            await asyncio.to_thread(redis.kill)
            await asyncio.sleep(10)
            await asyncio.to_thread(redis.start)
            phase = "after"
            await asyncio.sleep(10)
            phase = "over"
        await crowd.judge(storage)
    finally:
        await crowd.stop()
    for name, found in waits.items():
        found.sort()
        p99 = found[int(len(found) * 0.99)]
        print(f"{name}: {len(found)} acks, p99 {p99 * 1000:.0f} ms, the slowest {found[-1] * 1000:.0f} ms")
        assert len(found) > 100
        assert p99 < 1.0, name
    lines = [len(layer_lines(server)) for server in servers]
    print(f"lines about the layer: {lines}")
    assert max(lines) <= 5
    assert all("Traceback" not in server.log() for server in servers)
    assert all(member.connections == 1 for member in crowd.members)


async def test_a_quiet_bus_waits_for_notifications_without_a_false_alarm(
    start_server: StartServer, storage: Storage
) -> None:
    """Nothing comes for longer than redis-py waits for an answer."""
    assert storage.redis is not None
    server = await asyncio.to_thread(start_server)
    began = sent(storage.redis)
    redis = storage.redis
    await wait_for(lambda: sent(redis) >= began + 4, "four more echoes")
    assert layer_lines(server) == []


def sent(redis: RedisServer) -> int:
    """How many messages were sent over the layer: each process sends one to itself every two seconds."""
    found = re.search(r"cmdstat_publish:calls=(\d+)", redis.command("INFO", "commandstats").decode())
    return int(found[1]) if found else 0


FAULTS: dict[str, Callable[[RedisServer], None]] = {
    "flushed": RedisServer.flush,
    "cut": RedisServer.drop_clients,
    "restarted": RedisServer.restart,
    "frozen": RedisServer.freeze,
}


async def test_a_tail_that_is_lost_with_the_layer_is_found_though_nothing_comes_after_it(
    start_server: StartServer, storage: Storage
) -> None:
    assert storage.redis is not None
    servers = await two(start_server)
    crowd = Crowd(servers)
    try:
        near, far = await crowd.join(2, "lab:bench")
        for fault, hurt in FAULTS.items():
            crowd.recorder.note(fault)
            await asyncio.to_thread(hurt, storage.redis)
            await near.publish(f"{fault}, channel", room="lab", channel="bench")
            await near.publish(f"{fault}, room", room="lab")
            await near.publish(f"{fault}, private", type="private", to=["member-1"])
            for kind in ("channel", "room", "private"):
                await far.client.expect(message=f"{fault}, {kind}")
            await asyncio.to_thread(storage.redis.thaw)
            await far.publish(f"{fault}, and back", room="lab", channel="bench")
            await near.client.expect(message=f"{fault}, and back")
            if fault in ("flushed", "cut"):
                # Redis was there all the time: connections that were cut fail once each and are no outage.
                assert not any("event=layer_lost" in server.log() for server in servers)
        await crowd.judge(storage)
    finally:
        await asyncio.to_thread(storage.redis.thaw)
        await crowd.stop()


async def test_a_listener_that_redis_cuts_off_for_being_slow_costs_no_message(
    start_server: StartServer, storage: Storage
) -> None:
    """A process does not read for a moment, and Redis lets little wait for it."""
    redis = storage.redis
    assert redis is not None
    near, far = await two(start_server)
    crowd = Crowd([near, far])
    limits = ("CONFIG", "SET", "client-output-buffer-limit")
    assert redis.command(*limits, "pubsub 256kb 0 0") == b"+OK\r\n"
    try:
        publisher, reader = await crowd.join(2, "lab:bench", name="member")
        before = listeners(redis)
        await asyncio.to_thread(far.freeze)
        try:
            # More than the buffers of the system take.
            for number in range(120):
                await publisher.publish(f"{number} " + "x" * 100_000, room="lab", channel="bench")
            await wait_for(lambda: listeners(redis) < before, "Redis cuts it off")
        finally:
            await asyncio.to_thread(far.thaw)
        await publisher.publish("last", room="lab", channel="bench")
        await reader.client.wait_seq("lab:bench", 121)
        assert [frame["seq"] for frame in reader.client.messages("lab:bench")] == [*range(1, 122)]
        assert reader.connections == 1
    finally:
        assert redis.command(*limits, "pubsub 32mb 8mb 60") == b"+OK\r\n"
        await crowd.stop()


def listeners(redis: RedisServer) -> set[bytes]:
    """The ids of the connections that listen."""
    return set(re.findall(rb"\bid=(\d+)", redis.command("CLIENT", "LIST", "TYPE", "PUBSUB")))
