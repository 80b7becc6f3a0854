"""The whole way on real servers of both kinds: what a client sees does not depend on how frames are read and written."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.realtime.frame import masked_frame
from tests.conftest import Connect, _servers
from tests.harness.backends import Backends
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

SETTINGS = {"ARQONBUS_RATE_LIMIT": "0", "ARQONBUS_SEND_DEADLINE": "3"}

#: Kinds of server: each direct way, and the portable one.
WAYS = ["daphne", "uvicorn", "uvloop", "portable"]


@pytest.fixture(scope="module")
def running(backends: Backends) -> Iterator[Callable[[str], BusServer]]:
    """A server of each way, started when first asked for."""
    storage = backends.new_storage()
    made: dict[str, BusServer] = {}
    with _servers(backends, storage) as start:

        def once(way: str) -> BusServer:
            if way not in made:
                portable = {"ARQONBUS_WRITER": "portable"} if way == "portable" else {}
                loop = {"uvicorn": "asyncio", "uvloop": "uvloop"}.get(way)
                made[way] = start(
                    "uvicorn" if loop else "daphne",
                    env={**SETTINGS, **portable},
                    arguments=("--loop", loop) if loop else (),
                )
            return made[way]

        yield once
    backends.drop_storage(storage)


@pytest.fixture(params=WAYS)
def server(running: Callable[[str], BusServer], request: pytest.FixtureRequest) -> BusServer:
    """Each in turn."""
    return running(request.param)


async def raw(client: WireClient, data: bytes) -> None:
    """Put bytes onto the client's line, past its own framing."""
    client.socket.transport.write(data)


def event(room: str, number: int, **more: Any) -> bytes:
    """An event as a client writes it."""
    return json.dumps(
        {"type": "event", "id": f"n{number}", "room": room, "channel": "a", "message": str(number), **more}
    ).encode()


async def test_frames_of_every_form_arrive_in_the_order_in_which_they_were_sent(
    wire: Connect, server: BusServer, fresh_room: str
) -> None:
    reader = await wire(server, room=fresh_room, channel="a")
    client = await wire(server, room=fresh_room, channel="b")
    mask = b"\x11\x22\x33\x44"
    parts = [
        masked_frame(event(fresh_room, 1), mask),
        masked_frame(event(fresh_room, 2)[:10], mask, first=0x01),
        masked_frame(b"hello", mask, first=0x89),
        masked_frame(event(fresh_room, 2)[10:], mask, first=0x80),
        masked_frame(event(fresh_room, 3), mask, first=0x82),
        masked_frame(
            b'{"type":"command","command":"history","id":"asks","room":"%b","channel":"a"}' % fresh_room.encode(), mask
        ),
        masked_frame(event(fresh_room, 4), mask),
        masked_frame(event(fresh_room, 5, payload={"long": "x" * 80_000}), mask),
        masked_frame(event(fresh_room, 6), mask),
        masked_frame(event(fresh_room, 7, ack=True), mask),
    ]
    stream = b"".join(parts)
    # In pieces that end within headers and within texts.
    for start in range(0, len(stream), 4999):
        await raw(client, stream[start : start + 4999])
        await asyncio.sleep(0)
    got = await reader.expect_all(7, type="event")
    assert [frame["message"] for frame in got] == list("1234567")
    assert [frame["seq"] for frame in got] == list(range(1, 8))
    assert (await client.expect(type="ack"))["seq"] == 7
    asked = await client.expect(type="command_response")
    assert asked["request_id"] == "asks"
    assert [message["message"] for message in asked["result"]["messages"]][:3] == list("123")[
        : len(asked["result"]["messages"])
    ]


async def test_a_page_without_an_origin_comes_in_with_its_token_as_the_first_and_as_a_later_client(
    wire: Connect, server: BusServer, fresh_room: str
) -> None:
    """A sandboxed frame says `Origin: null`; who was there before makes no difference."""
    token = await asyncio.to_thread(server.create_token, f"sandboxed-{fresh_room}")
    subprotocols = ["arqonbus.v1", f"bearer.{token}"]
    await wire(server, origin="null", subprotocols=subprotocols)
    await wire(server)
    await (await wire(server, origin="null", subprotocols=subprotocols)).ping()


async def test_an_empty_frame_and_one_that_is_no_text_cost_what_the_contract_says(
    wire: Connect, server: BusServer, fresh_room: str
) -> None:
    client = await wire(server, room=fresh_room, channel="a")
    await client.send("")
    assert (await client.expect(type="error"))["error"]["code"] == "INVALID_JSON"
    await client.ping()
    await raw(client, masked_frame(b'{"message":"\xff"}', b"\x01\x02\x03\x04"))
    # Autobahn drops the line without a close frame.
    assert await client.wait_closed() in (1007, 1006)


async def test_compression_that_was_negotiated_goes_the_ordinary_way(
    wire: Connect, running: Callable[[str], BusServer], fresh_room: str
) -> None:
    server = running("uvicorn")
    compressed = await wire(server, compression="deflate", room=fresh_room, channel="a")
    assert compressed.socket.protocol.extensions, "nothing was negotiated, so nothing is tried"
    plain = await wire(server, room=fresh_room, channel="a")
    text = "aaaa" * 10_000
    await compressed.publish(text, room=fresh_room, channel="a", ack=True)
    await plain.publish("back", room=fresh_room, channel="a", ack=True)
    assert (await plain.expect(type="event"))["message"] == text
    assert (await compressed.expect(type="event"))["message"] == "back"


def peak_rss(server: BusServer) -> int:
    """The most memory that the server ever had, in bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def each_way(some: int, many: int) -> list[Any]:
    """On both servers: some messages in `make test`, many in `make chaos`."""
    ways = ("daphne", "uvicorn")
    return [pytest.param(way, some, marks=pytest.mark.embedded) for way in ways] + [
        pytest.param(way, many, marks=[pytest.mark.embedded, pytest.mark.chaos]) for way in ways
    ]


@pytest.mark.parametrize(("way", "many"), each_way(120, 600))
async def test_a_stuck_reader_is_closed_costs_others_nothing_and_recovers(
    wire: Connect, running: Callable[[str], BusServer], way: str, many: int, fresh_room: str
) -> None:
    server = running(way)
    sender = await wire(server, room=fresh_room, channel="b")
    healthy = await wire(server, room=fresh_room, channel="a")
    stuck = await wire(server, room=fresh_room, channel="a", client_type="stuck")
    position = {"seq": 0, "epoch": stuck.positions[f"{fresh_room}:a"]["epoch"]}
    stuck.pause_reading()
    for _ in range(many):
        await sender.publish("x" * 100_000, room=fresh_room, channel="a", ack=True)
    await healthy.wait_seq(f"{fresh_room}:a", many, timeout=30)
    await wait_for_participants(sender, fresh_room, 1)
    assert not healthy.closed
    stuck.resume_reading()
    assert await stuck.wait_closed(timeout=20) in (4013, 1006)
    back = await wire(server, room=fresh_room, channel="a", since=position["seq"], epoch=position["epoch"])
    await back.wait_seq(f"{fresh_room}:a", many, timeout=30)
    assert [frame["seq"] for frame in back.messages(f"{fresh_room}:a")] == list(range(1, many + 1))


@pytest.mark.embedded
@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["daphne", "uvicorn"])
async def test_a_stuck_reader_delays_the_others_by_less_than_half(
    wire: Connect, running: Callable[[str], BusServer], way: str, fresh_room: str
) -> None:
    """Rounds of 600 x 100 kB with and without one, in turn; what is compared are the medians of the rounds' p99."""
    server = running(way)
    sender = await wire(server, room=fresh_room, channel="door")

    async def p99(channel: str, *, stuck_too: bool) -> float:
        address = f"{fresh_room}:{channel}"
        others = [await wire(server, room=fresh_room, channel=channel) for _ in range(4)]
        stuck = await wire(server, room=fresh_room, channel=channel) if stuck_too else None
        if stuck is not None:
            stuck.pause_reading()
        took: list[float] = []
        for number in range(1, 601):
            began = time.monotonic()
            await sender.publish("x" * 100_000, room=fresh_room, channel=channel, ack=True)
            for other in others:
                await other.wait_seq(address, number)
                last = other.received[-1]
                if last.frame.get("seq") == number:
                    took.append(last.at - began)
                # A hundred kilobytes each are not kept.
                other.received.clear()
            sender.received.clear()
        assert len(took) > 2000
        if stuck is not None:
            stuck.resume_reading()
            assert await stuck.wait_closed(timeout=20) in (4013, 1006)
        for other in others:
            await other.close()
        return sorted(took)[int(len(took) * 0.99)] * 1000

    await p99("warm-up", stuck_too=True)
    alone, beside = [], []
    for number in range(5):
        alone.append(await p99(f"alone{number}", stuck_too=False))
        beside.append(await p99(f"beside{number}", stuck_too=True))
    factor = statistics.median(beside) / statistics.median(alone)
    print(
        f"{way}: p99 in ms without {[f'{v:.1f}' for v in alone]}, with {[f'{v:.1f}' for v in beside]}, x {factor:.2f}"
    )
    assert factor < 1.5


@pytest.mark.parametrize(("way", "many"), each_way(400, 3_000))
async def test_what_a_stuck_reader_leaves_in_memory_is_bounded(
    wire: Connect, running: Callable[[str], BusServer], way: str, many: int, fresh_room: str
) -> None:
    server = running(way)
    token = server.create_token(f"admin-{fresh_room}", admin=True)
    sender = await wire(server, headers={"Authorization": f"Bearer {token}"}, room=fresh_room, channel="b")
    # Nothing of it is stored: what grows is what waits for readers.
    await sender.request("create_channel", room=fresh_room, channel="a", ephemeral=True)
    stuck = await wire(server, room=fresh_room, channel="a")
    stuck.pause_reading()
    before = peak_rss(server)
    for _ in range(many):
        await sender.publish("x" * 100_000, room=fresh_room, channel="a", ack=True)
    await wait_for_participants(sender, fresh_room, 0)
    grown = peak_rss(server) - before
    assert grown < 20 * 1024 * 1024, f"{grown // 1024} KiB more, of {many / 10:g} MB sent"


async def wait_for_participants(client: WireClient, room: str, count: int) -> None:
    """Until the channel `a` has this many members."""

    async def counted() -> bool:
        info = await client.request("channel_info", room=room, channel="a")
        return len(info["participants"]) == count

    await wait_for(counted, f"{count} members")
