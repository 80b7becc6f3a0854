"""P16: the database goes away under load. Publishers hear the truth, subscribers stay, the service resumes by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.postgres import PostgresServer
from tests.reliability.traffic import Crowd

pytestmark = pytest.mark.cluster

#: Seconds a client waits for an answer: many times what the server promises, since a busy machine is no failure.
PATIENCE = 30.0


@contextmanager
def held(storage: Storage, room: str, channel: str) -> Iterator[None]:
    """A transaction of somebody's that keeps a channel's row, as `select_for_update()` does."""
    with psycopg.connect(storage.database_url) as connection, connection.transaction():
        rows = connection.execute(
            "SELECT bus_channel.id FROM bus_channel JOIN bus_room ON bus_room.id = room_id"
            " WHERE bus_room.name = %s AND bus_channel.name = %s FOR UPDATE OF bus_channel",
            (room, channel),
        ).fetchall()
        assert len(rows) == 1
        yield


async def refusal(client: WireClient, room: str = "lab", channel: str = "bench") -> str:
    """The code with which the server refuses a publish while the store is away."""
    try:
        await client.publish("?", room=room, channel=channel, ack=True, message_id=new_id(), timeout=PATIENCE)
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
                await probe.ping(timeout=PATIENCE)
            assert codes == {"UNAVAILABLE"}
            await asyncio.to_thread(postgres.start)
            await crowd.until_acked(1)
            crowd.recorder.note("frozen")
            await asyncio.to_thread(postgres.freeze)
            try:
                # What was already given to the database to commit cannot be taken back any more.
                assert {await refusal(probe) for _ in range(2)} <= {"UNAVAILABLE", "OUTCOME_UNKNOWN"}
                await probe.ping(timeout=PATIENCE)
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
        lost = [line for line in server.log().splitlines() if "store_lost" in line]
        assert "Start it, or correct DATABASE_URL" in lost[0]
        assert "store_back" in server.log()


async def test_who_wants_into_a_channel_that_a_transaction_holds_waits_alone(
    start_server: StartServer, storage: Storage, wire: Connect, fresh_room: str
) -> None:
    """Others publish and join elsewhere meanwhile. A join goes on when the row is free, or is refused with the reason.

    One process refuses after its usual two seconds. The other one would wait for a minute, so that what it answers during
    the transaction did not wait for the row.
    """
    hasty, patient = await asyncio.gather(
        asyncio.to_thread(start_server),
        asyncio.to_thread(start_server, env={"ARQONBUS_STORE_TIMEOUT": "60"}),
    )
    member = await wire(patient, room=f"{fresh_room}:held")
    publisher = await wire(patient, room=f"{fresh_room}:free")
    impatient = await wire(hasty, room=f"{fresh_room}:door")
    with held(storage, fresh_room, "held"):
        joining = asyncio.create_task(publisher.request("join_channel", channel=f"{fresh_room}:held", timeout=60))
        registering = asyncio.create_task(WireClient.connect(patient.url, room=f"{fresh_room}:held", timeout=60))
        other = await wire(patient, room=f"{fresh_room}:door")
        for number in range(20):
            ack = await other.publish(str(number), room=fresh_room, channel="free", ack=True, timeout=PATIENCE)
            assert ack["seq"] == number + 1
            await other.join(fresh_room, f"free{number}")
        assert await refusal(impatient, fresh_room, "held") == "UNAVAILABLE"
        with pytest.raises(WireError, match="Another transaction locks this channel"):
            await impatient.request("join_channel", channel=f"{fresh_room}:held", timeout=PATIENCE)
        assert not joining.done()
        assert not registering.done()
    await joining
    async with await registering as newcomer:
        await member.publish("free again", room=fresh_room, channel="held", ack=True)
        await publisher.wait_seq(f"{fresh_room}:held", 1)
        await newcomer.wait_seq(f"{fresh_room}:held", 1)
    info = await other.request("channel_info", room=fresh_room, channel="held")
    there = {row["client_id"] for row in info["participants"]}
    assert {member.client_id, publisher.client_id} <= there
    assert impatient.client_id not in there
