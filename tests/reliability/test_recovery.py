"""P2, P4, P5: nobody misses or doubles a message, whether it is there, joins, comes back, or all of them at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.light import LightClient
from tests.reliability.traffic import Crowd, read_database


def seqs(client: WireClient, address: str) -> list[int]:
    return [frame["seq"] for frame in client.messages(address)]


async def test_fifty_members_get_a_thousand_messages_each(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    members = await asyncio.gather(*(wire(shared_server, room=f"{fresh_room}:hall") for _ in range(50)))
    publisher = await wire(shared_server, room=f"{fresh_room}:door")
    for number in range(1000):
        await publisher.publish(str(number), room=fresh_room, channel="hall")
    await publisher.ping()
    for member in members:
        await member.wait_seq(f"{fresh_room}:hall", 1000, timeout=20)
    assert sum(seqs(member, f"{fresh_room}:hall") == list(range(1, 1001)) for member in members) == 50


@pytest.mark.embedded
async def test_two_hundred_joins_under_load_have_no_hole_between_history_and_life(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:hall"
    publisher = await wire(shared_server, room=f"{fresh_room}:door")
    joiners = await asyncio.gather(*(wire(shared_server, room=f"{fresh_room}:door") for _ in range(200)))
    done = asyncio.Event()

    async def publish() -> int:
        number = 0
        while not done.is_set():
            number += 1
            await publisher.publish(str(number), room=fresh_room, channel="hall")
            await asyncio.sleep(0.01)
        ack = await publisher.publish("last", room=fresh_room, channel="hall", ack=True)
        return int(ack["seq"])

    publishing = asyncio.create_task(publish())
    for joiner in joiners:
        result = await joiner.join(fresh_room, "hall", since=0)
        assert result["recovered"] is True
    done.set()
    last = await publishing
    for joiner in joiners:
        await joiner.wait_seq(address, last)
        assert seqs(joiner, address) == list(range(1, last + 1))


@pytest.mark.embedded
async def test_a_hundred_clients_that_were_cut_off_for_five_seconds_get_what_they_missed(
    start_server: StartServer, storage: Storage
) -> None:
    server = await asyncio.to_thread(start_server)
    crowd = Crowd([server])
    try:
        publishers = await crowd.join(2, "lab:door", name="publisher")
        cut = await asyncio.gather(
            *(
                WireClient.connect(server.url, client_id=f"cut-{n}", room="lab:bench", recorder=crowd.recorder)
                for n in range(100)
            )
        )
        stranger = await WireClient.connect(server.url, client_id="stranger", room="lab:bench")
        async with crowd.publishing(publishers, "lab:bench", rate=50):
            await crowd.until_acked(20)
            # A whole-room and a private message go missing too.
            await asyncio.gather(*(client.cut() for client in (*cut, stranger)))
            await publishers[0].publish("everybody", room="lab")
            await publishers[0].publish("psst", type="private", to=[f"cut-{n}" for n in range(50)])
            await crowd.until_acked(250)
            back = await asyncio.gather(*(client.reconnect() for client in cut))
            # All are live again: they have what came after the answer to the last of them.
            ack = await publishers[0].publish("all are back", room="lab", channel="bench")
            await asyncio.gather(*(client.wait_seq("lab:bench", ack["seq"]) for client in back))
            # A position in another log is no position; each is told so, once, with what is left.
            stranger.positions["lab:bench"]["epoch"] = "elsewhere"
            lost = await stranger.reconnect()
            await crowd.until_acked(10)
        told = lost.registered["channels"]["lab:bench"]
        assert (told["recovered"], told["first_seq"]) == (False, 1)
        assert all(client.registered["channels"]["lab:bench"]["recovered"] is True for client in back)
        last = len(read_database(storage)["lab:bench"])
        for client in (*back, lost):
            await client.wait_seq("lab:bench", last)
        assert seqs(lost, "lab:bench") == list(range(1, last + 1))
        await crowd.judge(storage)
        await asyncio.gather(*(client.close() for client in (*back, lost)))
    finally:
        await crowd.stop()


async def storm(start_server: StartServer, storage: Storage, count: int) -> None:
    """Cut `count` clients in twenty channels off and let all of them resume at once, while 200 messages a second flow."""
    server = await asyncio.to_thread(start_server)
    crowd = Crowd([server])
    channels = [f"hall{number}" for number in range(20)]
    address = [f"lab:{channels[number % 20]}" for number in range(count)]
    clients: list[LightClient] = []
    for start in range(0, count, 100):
        clients += await asyncio.gather(
            *(
                LightClient.connect(server.port, client_id=f"client-{n}", room=address[n])
                for n in range(start, min(start + 100, count))
            )
        )
    watchers = await crowd.join(1, *(f"lab:{name}" for name in channels), name="watcher")
    publishers = await crowd.join(20, "lab:door", name="publisher")
    back: list[LightClient] = []
    live: dict[str, int] = {}

    async def publish(number: int, stop: asyncio.Event) -> None:
        while not stop.is_set():
            ack = await publishers[number].publish("x", room="lab", channel=channels[number])
            live[channels[number]] = ack["seq"]
            await asyncio.sleep(0.1)

    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(publish(number, stop))
            await asyncio.wait_for(watchers[0].client.wait_seq("lab:hall0", 5), 20)
            for client in clients:
                client.cut()
            await watchers[0].client.wait_seq("lab:hall0", 15)
            before = live["hall0"]
            back = await asyncio.gather(*(client.resume(address[n]) for n, client in enumerate(clients)))
            # Live delivery goes on meanwhile, and goes on after it.
            assert seqs(watchers[0].client, "lab:hall0")[-1] >= before
            await watchers[0].client.wait_seq("lab:hall0", live["hall0"] + 5)
            stop.set()
        for number, client in enumerate(back):
            name = channels[number % 20]
            async with asyncio.timeout(20):
                while not client.seqs or client.seqs[-1] < live[name]:  # noqa: ASYNC110 - bytes arrive by themselves
                    await asyncio.sleep(0.01)
            first = clients[number].registered.result()["channels"][f"lab:{name}"]["seq"] + 1
            assert clients[number].seqs + client.seqs == list(range(first, live[name] + 1))
            assert client.registered.result()["channels"][f"lab:{name}"]["recovered"] is True
        await crowd.judge(storage)
    finally:
        for client in (*clients, *back):
            client.cut()
        await asyncio.gather(*(client.lost.wait() for client in (*clients, *back)))
        await crowd.stop()


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("cluster", marks=[pytest.mark.cluster, pytest.mark.chaos]),
    ],
)
async def test_a_thousand_clients_that_resume_at_once_are_complete_and_live_delivery_goes_on(
    start_server: StartServer, storage: Storage, backend: str
) -> None:
    await storm(start_server, storage, 1000)


async def test_a_position_that_the_retention_dropped_is_said_once_with_what_is_left(
    start_server: StartServer, storage: Storage, wire: Connect
) -> None:
    server = await asyncio.to_thread(
        start_server, env={"ARQONBUS_RETENTION_COUNT": "10", "ARQONBUS_PRUNE_INTERVAL": "0.2"}
    )
    publisher = await wire(server, client_id="publisher", room="lab:door")
    reader = await wire(server, client_id="reader", room="lab:bench")
    await publisher.publish("1", room="lab", channel="bench", ack=True)
    await reader.wait_seq("lab:bench", 1)
    before = reader.messages("lab:bench")[0]["timestamp"]
    await reader.cut()
    for number in range(2, 61):
        await publisher.publish(str(number), room="lab", channel="bench", ack=True)

    async def pruned() -> bool:
        answer: dict[str, Any] = await publisher.request("history", room="lab", channel="bench", limit=500, after=0)
        return int(answer["messages"][0]["seq"]) > 50

    await wait_for(pruned, "the older half is pruned", deadline=20)
    # Whatever the process still has in memory: one that was restarted has to say what is gone.
    await asyncio.to_thread(server.restart, graceful=True)
    again = await reader.reconnect()
    told = again.registered["channels"]["lab:bench"]
    assert (told["recovered"], told["first_seq"]) == (False, 51)
    await again.wait_seq("lab:bench", 60)
    assert seqs(again, "lab:bench") == list(range(51, 61))
    # At its new position there is nothing to tell any more.
    last = await again.reconnect()
    assert last.registered["channels"]["lab:bench"]["recovered"] is True
    assert seqs(last, "lab:bench") == []
    await last.close()
    # A time is answered as a position is: before what is left nobody knows, from then on nothing is missing.
    late = await wire(server, client_id="late", room="lab:door")
    result = await late.join("lab", "bench", since=before)
    assert (result["recovered"], result["first_seq"]) == (False, 51)
    await late.wait_seq("lab:bench", 60)
    assert seqs(late, "lab:bench") == list(range(51, 61))
    moment = late.messages("lab:bench")[4]["timestamp"]
    wanted = [frame["seq"] for frame in late.messages("lab:bench") if frame["timestamp"] >= moment]
    later = await wire(server, client_id="later", room="lab:door")
    assert (await later.join("lab", "bench", since=moment))["recovered"] is True
    await later.wait_seq("lab:bench", 60)
    assert seqs(later, "lab:bench") == wanted


async def test_a_long_history_is_replayed_in_pages_while_the_connection_goes_on(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    """5,000 messages of 1 kB, several times the bounds of a connection, for three who come at different places."""
    address = f"{fresh_room}:hall"
    publisher = await wire(shared_server, room=f"{fresh_room}:door")
    for number in range(5000):
        await publisher.publish(f"{number} " + "x" * 1000, room=fresh_room, channel="hall")
        if number % 500 == 499:
            await publisher.ping()
    await publisher.publish("last", room=fresh_room, channel="hall", ack=True, timeout=30)
    readers = [await wire(shared_server, room=f"{fresh_room}:door") for _ in range(3)]
    for reader, since in zip(readers, (0, 1234, 4900), strict=True):
        assert (await reader.join(fresh_room, "hall", since=since))["recovered"] is True
    await publisher.publish("live", room=fresh_room, channel="hall", ack=True)
    await readers[0].ping()
    for reader, since in zip(readers, (0, 1234, 4900), strict=True):
        await reader.wait_seq(address, 5002, timeout=30)
        assert seqs(reader, address) == list(range(since + 1, 5003))
