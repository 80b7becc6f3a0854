"""P3, P5: requests that come close upon one another, so that one changes what another has only begun."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.reliability.traffic import query


def seqs(frames: list[dict[str, Any]], address: str) -> list[int]:
    return [
        frame["seq"] for frame in frames if f"{frame.get('room')}:{frame.get('channel')}" == address and "seq" in frame
    ]


async def test_who_joins_anew_while_catching_up_gets_one_replay(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    """Three joins from the beginning of a log of several pages: none is waited for, what comes after the last counts."""
    publisher = await wire(shared_server, room=f"{fresh_room}:door")
    for _ in range(1500):
        await publisher.send({"room": fresh_room, "channel": "hall", "message": "x" * 1000})
    await publisher.ping()
    reader = await wire(shared_server, room=f"{fresh_room}:door")
    for number in (1, 2, 3):
        parameters = {"room": fresh_room, "channel": "hall", "since": 0}
        await reader.send(reader.command_frame("join_channel", parameters, f"join-{number}"))
    await reader.expect(type="command_response", request_id="join-3")
    answered = [frame.get("request_id") for frame in reader.frames].index("join-3")
    for _ in range(2):
        # What a second replay would bring comes before the answer to the ping.
        ack = await publisher.publish("live", room=fresh_room, channel="hall", ack=True)
        await reader.wait_seq(f"{fresh_room}:hall", ack["seq"])
        await reader.ping()
    assert seqs(reader.frames[answered + 1 :], f"{fresh_room}:hall") == list(range(1, 1503))


async def test_joining_another_channel_of_a_room_does_not_hurry_the_rooms_own_log(
    wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    """A client catches up with a channel, then with the room's log; meanwhile it joins another channel of that room."""
    publisher = await wire(shared_server, room=f"{fresh_room}:door")
    reader = await wire(shared_server, client_id=f"reader-{fresh_room}", room=f"{fresh_room}:hall")
    await reader.cut()
    # More than the sockets' buffers take, so that the channel is not caught up with as long as nobody reads.
    for _ in range(400):
        await publisher.send({"room": fresh_room, "channel": "hall", "message": "x" * 40_000})
    # More than is written in one go; all of it is there before the reader comes back.
    for _ in range(9):
        await publisher.send({"room": fresh_room, "message": "x" * 20_000})
    await publisher.publish("x" * 20_000, room=fresh_room, ack=True)
    back: WireClient = await reader.reconnect()
    try:
        back.pause_reading()
        other = await wire(shared_server, room=f"{fresh_room}:other")
        await back.send(back.command_frame("join_channel", {"room": fresh_room, "channel": "other"}, "join"))
        await other.expect(event="client_joined")
        live = await publisher.publish("to all", room=fresh_room, ack=True)
        back.resume_reading()
        await back.wait_seq(f"{fresh_room}:*", live["seq"])
        await back.ping()
        assert seqs(back.frames, f"{fresh_room}:*") == list(range(1, 12))
        answer = await back.expect(type="command_response", request_id="join")
        assert list(answer["result"]["positions"]) == [f"{fresh_room}:other"]
    finally:
        await back.close()


async def test_members_of_a_channel_that_was_removed_in_the_database_are_told(
    start_server: StartServer, storage: Storage
) -> None:
    """The notification is missing: the next message finds out, and nobody waits for messages of another channel."""
    server = await asyncio.to_thread(start_server)
    async with (
        await WireClient.connect(server.url, room="lab:bench") as member,
        await WireClient.connect(server.url, room="lab:door") as publisher,
    ):
        letter: dict[str, Any] = {"type": "private", "to": [member.client_id], "ack": True}
        await publisher.publish("before", room="lab", channel="bench", ack=True)
        await publisher.publish("a letter", **letter)
        channels = f"name IN ('bench', '{member.client_id}')"
        for table in ("bus_message", "bus_membership", "bus_publishkey"):
            where = f"channel_id IN (SELECT id FROM bus_channel WHERE {channels})"
            await asyncio.to_thread(query, storage, f"DELETE FROM {table} WHERE {where}")
        await asyncio.to_thread(query, storage, f"DELETE FROM bus_channel WHERE {channels}")
        with pytest.raises(WireError, match="CHANNEL_NOT_FOUND"):
            await publisher.publish("into nothing", room="lab", channel="bench", ack=True)
        told = await member.expect(event="unsubscribed", channel="bench")
        assert told["payload"]["reason"] == "DELETED"
        assert (await publisher.publish("after", room="lab", channel="bench", ack=True))["seq"] == 1
        assert (await member.join("lab", "bench", since=0))["recovered"] is True
        await member.expect(message="after")
        with pytest.raises(WireError, match="CHANNEL_NOT_FOUND"):
            await publisher.publish("into nothing", **letter)
        # A position in the inbox means nothing in the next one: its client is sent away, and told so when it is back.
        assert await member.wait_closed() == 4013
        await publisher.publish("another letter", **letter)
        async with await member.reconnect() as back:
            told = back.registered["channels"][f"pm:{member.client_id}"]
            assert (told["recovered"], told["first_seq"], told["seq"]) == (False, 1, 1)
            await back.expect(message="another letter")
