"""P8, between processes: more than Redis takes is refused, not gathered in memory; what was accepted reaches everybody."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bus.realtime.frame import masked_frame
from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.harness.server import BusServer, ServerKind
from tests.harness.waiting import wait_for
from tests.reliability.test_long_life import figure
from tests.servers.test_registry import peak_rss

pytestmark = pytest.mark.cluster

MIB = 1024 * 1024


async def two(start_server: StartServer, kind: ServerKind, **env: str) -> list[BusServer]:
    """Two processes on one storage."""
    return list(await asyncio.gather(*(asyncio.to_thread(start_server, kind, env=env) for _ in range(2))))


async def ephemeral_channel(wire: Connect, server: BusServer, room: str) -> None:
    """Make the channel `a`, which keeps nothing."""
    token = server.create_token(f"admin-{room}", admin=True)
    admin = await wire(server, headers={"Authorization": f"Bearer {token}"}, room=room, channel="b")
    await admin.request("create_channel", room=room, channel="a", ephemeral=True)


async def pour(client: WireClient, room: str, numbers: list[int], size: int) -> None:
    """Publish as fast as the line takes it, without a wait for answers."""
    transport = client.socket.transport
    for number in numbers:
        frame = {
            "type": "event",
            "id": f"n{number}",
            "room": room,
            "channel": "a",
            "payload": {"n": number},
            "ack": True,
        }
        text = json.dumps({**frame, "message": "x" * size})
        transport.write(masked_frame(text.encode(), b"\x01\x02\x03\x04"))
        while transport.get_write_buffer_size() > 4 * MIB:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def answers(client: WireClient, count: int) -> tuple[set[int], set[int]]:
    """The numbers that were acknowledged, and those that were refused with BUSY, once there are so many answers."""

    def found() -> list[dict[str, Any]]:
        return [frame for frame in client.frames if str(frame.get("request_id")).startswith("n")]

    await wait_for(lambda: len(found()) >= count, f"{count} answers", deadline=60)
    acked: set[int] = set()
    busy: set[int] = set()
    for frame in found():
        number = int(frame["request_id"].removeprefix("n"))
        if frame["type"] == "ack":
            acked.add(number)
        else:
            assert frame["error"]["code"] == "BUSY", frame
            assert frame["error"]["retry_after"] > 0
            busy.add(number)
    client.received.clear()
    return acked, busy


def numbers(reader: WireClient) -> list[int]:
    """The numbered messages that came."""
    return [frame["payload"]["n"] for frame in reader.frames if frame["type"] == "event" and "n" in frame["payload"]]


async def until_numbers(reader: WireClient, wanted: set[int]) -> None:
    """Until all of them have come."""
    await wait_for(lambda: wanted <= set(numbers(reader)), "all of them have come")


@pytest.mark.parametrize("kind", ["uvicorn", pytest.param("daphne", marks=pytest.mark.chaos)])
async def test_a_redis_that_takes_nothing_costs_no_memory_no_accepted_message_here_and_no_kept_one_anywhere(
    wire: Connect, start_server: StartServer, storage: Storage, kind: ServerKind, fresh_room: str
) -> None:
    assert storage.redis is not None
    # What is accepted comes to the readers at once: they may be slower than that, it is not about them.
    here, there = await two(start_server, kind, ARQONBUS_BELL_BUFFER=str(2 * MIB), ARQONBUS_SEND_BUFFER=str(16 * MIB))
    await ephemeral_channel(wire, here, fresh_room)
    sender = await wire(here, room=fresh_room, channel="b")
    near, far = [await wire(server, room=fresh_room, channel="a") for server in (here, there)]
    kept = await wire(there, room=fresh_room, channel="c")
    await sender.join(fresh_room, "c")
    # What the first ones need is there for good.
    await pour(sender, fresh_room, [-1, -2, -3], 100_000)
    assert (await answers(sender, 3)) == ({-1, -2, -3}, set())
    await until_numbers(far, {-1, -2, -3})
    before = peak_rss(here)

    await asyncio.to_thread(storage.redis.freeze)
    try:
        await pour(sender, fresh_room, list(range(400)), 100_000)
        acked, busy = await answers(sender, 400)
        assert len(acked) + len(busy) == 400
        assert acked, "what there is room for is taken"
        assert busy, "what there is no room for is refused"
        await until_numbers(near, acked)
        assert set(numbers(near)) & busy == set()
        for number in range(30):
            await sender.publish(f"{number} " + "x" * 100_000, room=fresh_room, channel="c", ack=True)
        assert peak_rss(here) - before < 20 * MIB
        # They do not wait for Redis, since each process looks at the log.
        await kept.wait_seq(f"{fresh_room}:c", 30)
        assert await until_figure(here, "bells_skipped_total", 1)
    finally:
        await asyncio.to_thread(storage.redis.thaw)
    # Then all is as before; what did not come there was counted here.
    sender.received.clear()
    marker = 1000
    async with asyncio.timeout(30):
        while marker not in numbers(far):
            marker += 1
            await pour(sender, fresh_room, [marker], 10)
            await answers(sender, 1)
            await asyncio.sleep(0.1)
    assert len(acked & set(numbers(far))) + figure(here, "bells_skipped_total") >= len(acked)
    assert figure(here, "bell_queue_bytes") == 0


async def until_figure(server: BusServer, name: str, least: float) -> float:
    """The figure, once it is as large."""
    async with asyncio.timeout(20):
        while (value := figure(server, name)) < least:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return value


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_three_thousand_large_ephemeral_messages_cross_or_are_refused_and_leave_no_memory(
    wire: Connect, start_server: StartServer, kind: ServerKind, fresh_room: str
) -> None:
    here, there = await two(start_server, kind)
    await ephemeral_channel(wire, here, fresh_room)
    sender = await wire(here, room=fresh_room, channel="b")
    far = await wire(there, room=fresh_room, channel="a")
    for start in range(-20, 0, 4):
        await pour(sender, fresh_room, list(range(start, start + 4)), 100_000)
        await answers(sender, 4)
        await until_numbers(far, set(range(start, start + 4)))
    before = peak_rss(here), peak_rss(there)
    got: set[int] = set()
    waiting = set(range(3_000))
    async with asyncio.timeout(120):
        while waiting:
            # As many at once as fit into what the reader over there may have waiting for it.
            some = sorted(waiting)[:200]
            await pour(sender, fresh_room, some, 100_000)
            acked, busy = await answers(sender, len(some))
            if busy:
                await asyncio.sleep(0.1)  # as the error says
            waiting -= acked
            got |= acked
    grown = [peak_rss(server) - was for server, was in zip((here, there), before, strict=True)]
    assert max(grown) < 20 * MIB
    # A reader that is slower than that is closed, as any other; one that is not has everything that was accepted.
    await wait_for(lambda: far.closed or set(numbers(far)) >= got, "it is closed, or has everything")
