"""P14: a server that is told to stop finishes what it accepted, says goodbye to everybody, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import time

import pytest
from websockets.exceptions import ConnectionClosed

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.server import ServerKind
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
        started = time.monotonic()
        exit_code = await asyncio.to_thread(server.terminate, 10.0)
        codes = [await client.wait_closed() for client in (*idle, *busy)]
    assert exit_code == 0
    assert time.monotonic() - started < 10, "the promise itself: a supervisor kills what takes longer"
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
