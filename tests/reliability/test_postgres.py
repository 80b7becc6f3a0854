"""P16: the database goes away under load. Publishers hear the truth, subscribers stay, the service resumes by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.postgres import PostgresServer
from tests.reliability.traffic import Crowd

pytestmark = pytest.mark.cluster


async def refusal(client: WireClient) -> str:
    """The code with which a publish is refused while the store is away. It comes within the client's patience of 3 s."""
    try:
        await client.publish("?", room="lab", channel="bench", ack=True, message_id=new_id(), timeout=3)
    except WireError as error:
        return error.code
    return "taken"


async def test_the_database_is_restarted_stopped_cut_and_frozen_under_load(
    start_server: StartServer, own_postgres_storage: Storage
) -> None:
    storage = own_postgres_storage
    postgres, database = storage.postgres, storage.database
    assert isinstance(postgres, PostgresServer)
    assert database is not None
    servers = await asyncio.gather(*(asyncio.to_thread(start_server, storage=storage) for _ in range(2)))
    crowd = Crowd(servers)
    try:
        await crowd.join(40, "lab:bench", name="member")
        publishers = await crowd.join(10, "lab:door", name="publisher")
        probe = (await crowd.join(1, "lab:door", name="probe"))[0].client
        async with crowd.publishing(publishers, "lab:bench", rate=100):
            await crowd.until_acked(50)
            crowd.recorder.note("restart")
            await asyncio.to_thread(postgres.restart)
            await crowd.until_acked(50)
            crowd.recorder.note("every connection cut")
            await asyncio.to_thread(postgres.cut_connections, database)
            await crowd.until_acked(50)
            crowd.recorder.note("stopped")
            await asyncio.to_thread(postgres.stop)
            until = time.monotonic() + 5
            codes = set()
            while time.monotonic() < until:
                codes.add(await refusal(probe))
                await probe.ping(timeout=1)
            assert codes == {"UNAVAILABLE"}
            await asyncio.to_thread(postgres.start)
            await crowd.until_acked(1, deadline=2)
            crowd.recorder.note("frozen")
            await asyncio.to_thread(postgres.freeze)
            try:
                # What was already given to the database to commit cannot be taken back any more.
                assert {await refusal(probe) for _ in range(2)} <= {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
                await probe.ping(timeout=1)
            finally:
                await asyncio.to_thread(postgres.thaw)
            await crowd.until_acked(50)
        await crowd.judge(storage, deadline=10)
        assert all(member.connections == 1 for member in crowd.members), "no socket was lost"
        # A machine that is gone and back sends nobody away, and the counts are right.
        info = await probe.request("channel_info", room="lab", channel="bench")
        assert len(info["participants"]) == 40
    finally:
        await crowd.stop()
    for server in servers:
        assert "Traceback" not in server.log()
        assert "store_lost" in server.log()
        assert "store_back" in server.log()
