"""P14: a server that is told to stop finishes what it accepted, says goodbye to everybody, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.server import ServerKind
from tests.harness.waiting import wait_until
from tests.reliability.traffic import Crowd, query, read_database


@pytest.mark.parametrize(
    "kind",
    ["daphne", pytest.param("uvicorn", marks=pytest.mark.embedded), pytest.param("runbus", marks=pytest.mark.embedded)],
)
async def test_a_graceful_stop_acknowledges_what_it_took_and_closes_everybody_with_a_hint(
    start_server: StartServer, storage: Storage, kind: ServerKind
) -> None:
    server = await asyncio.to_thread(start_server, kind)
    crowd = Crowd([server])
    idle = [await WireClient.connect(server.url, client_id=f"idle-{number}") for number in range(180)]
    busy = [
        await WireClient.connect(server.url, client_id=f"busy-{number}", room="lab", recorder=crowd.recorder)
        for number in range(20)
    ]
    stopping = asyncio.Event()
    outcomes: dict[str, str] = {}

    async def publish(client: WireClient) -> None:
        while not client.closed:
            message_id = new_id()
            outcomes[message_id] = "silence"
            try:
                await client.publish("x", room="lab", channel="bench", ack=True, message_id=message_id)
                outcomes[message_id] = "ack"
            except WireError as error:
                outcomes[message_id] = error.code
                await asyncio.sleep(0.05)
            except (AssertionError, ConnectionClosed):
                return  # The connection ended before the frame was read.
            if len(outcomes) > 200:
                stopping.set()

    async with asyncio.TaskGroup() as group:
        for client in busy:
            group.create_task(publish(client))
        await asyncio.wait_for(stopping.wait(), 30)
        # Ten seconds are the promise itself: a supervisor kills what takes longer.
        exit_code = await asyncio.to_thread(server.terminate, 10.0)
        codes = [await client.wait_closed() for client in (*idle, *busy)]
    assert exit_code == 0
    assert codes == [4012] * 200
    hints = [frame["error"]["retry_after"] for client in (*idle, *busy) for frame in client.frames if _goodbye(frame)]
    assert len(hints) == 200
    assert max(hints) - min(hints) > 3
    assert set(outcomes.values()) <= {"ack", "RESTARTING", "silence"}
    # Acknowledged is what was accepted, all of it, and nothing else.
    accepted = {message_id for message_id, outcome in outcomes.items() if outcome == "ack"}
    assert {row.message_id for row in read_database(storage)["lab:bench"]} == accepted
    await crowd.judge(storage, complete=False)
    assert query(storage, "SELECT count(*) FROM bus_client WHERE node_id IS NOT NULL")[0][0] == 0
    assert query(storage, "SELECT count(*) FROM bus_membership")[0][0] == 0
    assert query(storage, "SELECT count(*) FROM bus_node")[0][0] == 0


def _goodbye(frame: dict[str, object]) -> bool:
    error = frame.get("error")
    return isinstance(error, dict) and error["code"] == "RESTARTING" and frame.get("request_id") is None


@pytest.mark.embedded
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_while_it_stops_a_server_is_not_ready_takes_nobody_new_and_finishes_what_it_took(
    start_server: StartServer, storage: Storage, kind: ServerKind
) -> None:
    server = await asyncio.to_thread(
        start_server, kind, env={"ARQONBUS_STORE_TIMEOUT": "60", "ARQONBUS_DRAIN_TIMEOUT": "60"}
    )
    assert storage.sqlite_path is not None
    publisher = await WireClient.connect(server.url, room="lab:bench")
    await publisher.publish("before", room="lab", channel="bench", ack=True)
    with contextlib.closing(sqlite3.connect(storage.sqlite_path, isolation_level=None)) as locker:
        # Somebody else writes just now, so that the commit, and with it the stop, waits.
        locker.execute("BEGIN IMMEDIATE")
        accepted = asyncio.create_task(publisher.publish("accepted", room="lab", channel="bench", ack=True, timeout=60))
        await publisher.ping()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: server.get("/ready")[0] == 503, "/ready tells of the stop")
        newcomer = await WireClient.connect(server.url, register=False)
        assert await newcomer.wait_closed() == 4012
        locker.execute("ROLLBACK")
        assert (await accepted)["seq"] == 2
    assert await publisher.wait_closed() == 4012
    assert await asyncio.to_thread(server.terminate, 10.0) == 0


@pytest.mark.embedded
@pytest.mark.parametrize("kind", ["daphne", "uvicorn", "runbus"])
async def test_an_interrupt_that_the_process_ignores_does_not_half_stop_it(
    start_server: StartServer, kind: ServerKind
) -> None:
    """A shell starts `server &` in a script with SIGINT ignored; a drain that ends nothing left it deaf for good."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = await asyncio.to_thread(start_server, kind)
    finally:
        signal.signal(signal.SIGINT, before)
    client = await WireClient.connect(server.url)
    server.process.send_signal(signal.SIGINT)
    if kind == "uvicorn":
        # Its own handler takes the signal in any case; what counts is that it comes to an end.
        await asyncio.to_thread(wait_until, lambda: not server.alive, "the server ends")
        return
    await client.ping()
    assert server.get("/ready")[0] == 200
    assert "event=drain" not in server.log()
    assert await asyncio.to_thread(server.terminate, 10.0) == 0
