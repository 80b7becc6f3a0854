"""P17: a process that dies or freezes. Its clients are announced as left, the counts are right, they come back and recover."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.traffic import Crowd

pytestmark = pytest.mark.cluster


async def pair(start_server: StartServer) -> tuple[BusServer, BusServer]:
    """Two processes on one storage."""
    first, second = await asyncio.gather(asyncio.to_thread(start_server), asyncio.to_thread(start_server))
    return first, second


async def participants(client: WireClient, room: str, channel: str) -> set[str]:
    """Who the cluster says is in the channel."""
    info = await client.request("channel_info", room=room, channel=channel)
    assert info["participant_count"] == len(info["participants"])
    return {row["client_id"] for row in info["participants"]}


async def until_participants(client: WireClient, wanted: set[str], *, deadline: float) -> None:
    """Until the cluster counts these members of lab:bench, and no others."""

    async def counted() -> bool:
        return await participants(client, "lab", "bench") == wanted

    await wait_for(counted, "the members are counted", deadline=deadline)


async def test_clients_of_a_killed_process_are_announced_as_left_within_ten_seconds_and_counted_no_more(
    start_server: StartServer,
) -> None:
    alive, dying = await pair(start_server)
    witness = await WireClient.connect(alive.url, client_id="witness", room="lab:bench")
    lost = [await WireClient.connect(dying.url, client_id=f"lost-{n}", room="lab:bench") for n in range(5)]
    await lost[0].join("lab", "notes")
    await witness.expect_all(5, event="client_joined")
    assert await participants(witness, "lab", "bench") == {"witness", *(f"lost-{n}" for n in range(5))}
    await lost[0].request("set_status", status="working")
    await witness.expect(event="client_updated")
    await asyncio.to_thread(dying.kill)
    left = [frame["payload"] for frame in await witness.expect_all(5, event="client_left", timeout=10)]
    assert {payload["client_id"] for payload in left} == {f"lost-{n}" for n in range(5)}
    assert left[-1]["participants"] == 1
    assert await participants(witness, "lab", "bench") == {"witness"}
    assert await participants(witness, "lab", "notes") == set()
    assert (await witness.request("list_clients", status="working"))["clients"] == []
    stats = (await witness.request("status"))["stats"]
    assert stats["active_connections"] == 1
    await witness.close()


async def test_the_members_of_a_busy_channel_hear_who_left_with_a_process_that_was_stopped(
    start_server: StartServer,
) -> None:
    # So long that the process is gone before.
    env = {"ARQONBUS_PRESENCE_COALESCE_ABOVE": "0", "ARQONBUS_PRESENCE_COALESCE": "3"}
    staying, stopping = await asyncio.gather(asyncio.to_thread(start_server), asyncio.to_thread(start_server, env=env))
    witness = await WireClient.connect(staying.url, client_id="witness", room="lab:bench")
    await WireClient.connect(stopping.url, client_id="guest", room="lab:bench")
    await asyncio.to_thread(stopping.terminate)
    left = (await witness.expect(event="presence"))["payload"]
    assert ([card["client_id"] for card in left["left"]], left["participants"]) == (["guest"], 1)
    await witness.close()


async def test_one_of_two_processes_is_killed_under_load_and_its_clients_go_on_at_the_other(
    start_server: StartServer, storage: Storage
) -> None:
    alive, dying = await pair(start_server)
    crowd = Crowd([alive, dying])
    try:
        await crowd.join(100, "lab:bench", name="member")
        publishers = await crowd.join(6, "lab:door", name="publisher")
        async with crowd.publishing(publishers, "lab:bench", rate=60):
            await crowd.until_acked(30)
            await asyncio.to_thread(dying.kill)
            await crowd.until_acked(60)
        await crowd.judge(storage)
        assert sorted({member.connections for member in crowd.members}) == [1, 2]
        everybody = {f"member-{n}" for n in range(100)}
        reader = crowd.members[0].client
        await until_participants(reader, everybody, deadline=10)
    finally:
        await crowd.stop()


async def test_a_process_that_was_frozen_finds_out_and_its_clients_come_back_complete(
    start_server: StartServer, storage: Storage
) -> None:
    alive, frozen = await pair(start_server)
    crowd = Crowd([alive, frozen])
    try:
        near, far = await crowd.join(2, "lab:bench", name="member")
        both = {"member-0", "member-1"}
        assert await participants(near.client, "lab", "bench") == both
        await asyncio.to_thread(frozen.freeze)
        await near.publish("while it was frozen", room="lab", channel="bench")
        left = await near.client.expect(event="client_left", timeout=15)
        assert left["payload"]["client_id"] == "member-1"
        assert await participants(near.client, "lab", "bench") == {"member-0"}
        await asyncio.to_thread(frozen.thaw)
        await until_participants(near.client, both, deadline=15)
        assert far.codes == [4012]
        await far.publish("and back", room="lab", channel="bench")
        await crowd.judge(storage)
        assert await participants(near.client, "lab", "bench") == both
        assert not [f for f in near.client.frames if f.get("payload", {}).get("event") == "client_left"][1:]
    finally:
        await asyncio.to_thread(frozen.thaw)
        await crowd.stop()


async def test_workers_are_restarted_one_after_another_and_nobody_misses_a_message(
    start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server, "runbus", arguments=("--workers", "2"))
    crowd = Crowd([server])
    try:
        await crowd.join(20, "lab:bench", name="member")
        publishers = await crowd.join(4, "lab:door", name="publisher")
        async with crowd.publishing(publishers, "lab:bench", rate=40):
            await crowd.until_acked(20)
            server.process.send_signal(signal.SIGHUP)
            members = crowd.members
            await wait_for(lambda: min(one.connections for one in members) >= 2, "all have come back", deadline=60)
            await crowd.until_acked(20)
        await crowd.judge(storage)
        assert {code for member in crowd.members for code in member.codes} == {4012}
    finally:
        await crowd.stop()
    assert await asyncio.to_thread(server.terminate, 15.0) == 0
