"""Growing messages on real servers and sockets: a reader that does not read, and owner and reader in different processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, new_id
from tests.harness.growing import Watch
from tests.harness.server import ServerKind
from tests.harness.waiting import wait_for

MIB = 1024 * 1024


async def opened(owner: WireClient, of: str) -> None:
    """Open a stream in the owner's channel."""
    await owner.publish(ack=True, message_id=of, stream={"mode": "text"}, payload={})


async def append(owner: WireClient, of: str, n: int, delta: str, **fields: Any) -> None:
    """Add a part."""
    await owner.publish(type="append", of=of, n=n, delta=delta, ack=True, **fields)


async def has(watch: Watch, of: str, text: str) -> None:
    """Wait until a reader has this text."""
    await wait_for(lambda: watch.growth(of).content == text, f"the text {text[-40:]!r}")


@pytest.mark.embedded
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_a_reader_that_stalls_gets_snapshots_and_is_not_closed(
    start_server: StartServer, wire: Connect, kind: ServerKind
) -> None:
    env = {"ARQONBUS_FRAME_BYTES": str(MIB), "ARQONBUS_SEND_BUFFER": str(MIB), "ARQONBUS_SEND_DEADLINE": "60"}
    server = await asyncio.to_thread(start_server, kind, env=env)
    watch = Watch("slow")
    slow = await wire(server, client_id="slow", room="lab:bench", recorder=watch)
    owner = await wire(server, client_id="owner", room="lab:bench")
    streams = [new_id() for _ in range(16)]
    for of in streams:
        await opened(owner, of)
    slow.pause_reading()
    # More than the sockets between the two hold.
    said = {of: [f"{number}{of}" * 2000 for number in range(12)] for of in streams}
    for number in range(12):
        await asyncio.gather(*(append(owner, of, number + 1, said[of][number]) for of in streams))
    skipped = "arqonbus_parts_skipped_total"
    await wait_for(lambda: metric(server.get("/metrics")[1], skipped) > 0, "parts are left out")
    slow.resume_reading()
    for of in streams:
        text = "".join(said[of])
        await has(watch, of, text)
        await append(owner, of, 13, ".", end="complete")
        await slow.expect(type="stream_end", of=of)
        assert watch.growth(of).content == text + "."
    problems = [problem for growth in watch.growths.values() for problem in growth.problems]
    assert (problems, slow.closed) == ([], False)
    assert sum(growth.appends for growth in watch.growths.values()) < 16 * 13


def metric(page: bytes, name: str) -> float:
    """The value of a metric without labels on a page of /metrics."""
    return next(float(line.split()[-1]) for line in page.decode().splitlines() if line.startswith(name))


@pytest.mark.cluster
async def test_parts_stops_steers_and_adoptions_between_processes(start_server: StartServer, wire: Connect) -> None:
    here = await asyncio.to_thread(start_server, "daphne")
    there = await asyncio.to_thread(start_server, "uvicorn")
    watch, of = Watch("reader"), new_id()
    token = await asyncio.to_thread(here.create_token, "owner")
    admin = await asyncio.to_thread(here.create_token, "admin", admin=True)
    reader = await wire(there, client_id="reader", room="lab:bench", recorder=watch, token=admin)
    owner = await wire(here, client_id="owner", room="lab:bench", token=token)
    await opened(owner, of)
    for n in range(1, 21):
        await append(owner, of, n, f"{n} ")
    await reader.expect(type="append", of=of, n=20)
    assert (watch.growth(of).snapshots, watch.growth(of).appends) == (0, 20)
    # A part that is too large for a notification is read from the database.
    await append(owner, of, 21, "x" * 200_000)
    await wait_for(lambda: watch.growth(of).have == 21, "the large part")
    await reader.request("stop_stream", of=of)
    assert (await owner.expect(event="stop_requested"))["payload"]["of"] == of
    steer = new_id()
    await reader.publish(ack=True, message_id=steer, steer=of, payload={"turn": "left"}, room="lab", channel="bench")
    told = await owner.expect(event="steer")
    assert told["payload"]["message"]["payload"] == {"turn": "left"}
    heir = await wire(there, client_id="heir", room="lab:bench", token=token)
    adopted = await heir.request("adopt_stream", of=of, keep=False)
    await wait_for(lambda: watch.growth(of).resets == 1, "the empty snapshot")
    await append(heir, of, 1, "anew", token=adopted["token"])
    await reader.expect(type="append", of=of, n=1, delta="anew")
    # The old owner is a reader of the new attempt.
    await owner.expect(type="append", of=of, n=1, delta="anew")
    await append(heir, of, 2, ".", token=adopted["token"], end="complete")
    end = await reader.expect(type="stream_end", of=of)
    assert (end["message"], end["stream"]["state"], watch.growth(of).problems) == ("anew.", "stopped", [])
