"""P6: a channel, or a whole room, that was removed and made anew while a client was away: its old position holds for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.reliability.traffic import query

#: Empty channels go at once, and so do their messages.
SWEPT = {"ARQONBUS_CHANNEL_IDLE": "1", "ARQONBUS_RETENTION_AGE": "1", "ARQONBUS_PRUNE_INTERVAL": "0.5"}
Remove = Callable[[BusServer, Storage, WireClient], Awaitable[None]]


async def by_sweeping(server: BusServer, storage: Storage, admin: WireClient) -> None:
    """Nobody does anything: the housekeeping finds it empty, and the room with it."""
    await wait_for(lambda: query(storage, _CHANNELS) == [], "the end of the room", deadline=30)


async def by_an_admin(server: BusServer, storage: Storage, admin: WireClient) -> None:
    await admin.request("delete_channel", room="lab", channel="bench")


async def in_the_database(server: BusServer, storage: Storage, admin: WireClient) -> None:
    """No notification tells of it; whoever uses what the process remembers finds out."""
    for table in ("bus_message", "bus_membership", "bus_publishkey"):
        await asyncio.to_thread(query, storage, f"DELETE FROM {table} WHERE channel_id IN ({_IDS})")
    await asyncio.to_thread(query, storage, f"DELETE FROM bus_channel WHERE id IN ({_IDS})")
    async with await WireClient.connect(server.url, room="lab:bench") as early:
        assert early.registered["channels"]["lab:bench"]["seq"] == 0
        with pytest.raises(WireError, match="CHANNEL_NOT_FOUND"):
            await admin.publish("to all", room="lab", ack=True)
        # It heard the log of the room that is no more.
        assert await early.wait_closed() == 4013


_LAB = "FROM bus_channel c JOIN bus_room r ON r.id = c.room_id WHERE r.name = 'lab'"
_CHANNELS, _IDS = f"SELECT c.name {_LAB}", f"SELECT c.id {_LAB}"
_MEMBERS = f"SELECT count(*) FROM bus_membership WHERE channel_id IN ({_IDS})"


@pytest.mark.parametrize("remove", [by_sweeping, by_an_admin, in_the_database])
@pytest.mark.parametrize("way", ["registration", "join"])
async def test_who_comes_back_to_what_was_made_anew_is_told_and_misses_nothing(
    start_server: StartServer, storage: Storage, remove: Remove, way: str
) -> None:
    server = await asyncio.to_thread(start_server, env=SWEPT if remove is by_sweeping else {})
    admin = await WireClient.connect(server.url, room="ops:desk", token=server.create_token("root", admin=True))
    writer = await WireClient.connect(server.url, client_id="writer", room="ops:door")
    reader = await WireClient.connect(server.url, client_id="reader", room="lab:bench")
    for number in range(1, 6):
        await writer.publish(f"old {number}", room="lab", channel="bench", ack=True)
        await writer.publish(f"old {number}", room="lab", ack=True)
    for address in ("lab:bench", "lab:*"):
        await reader.wait_seq(address, 5)
    old: dict[str, Any] = {address: dict(reader.positions[address]) for address in ("lab:bench", "lab:*")}
    await reader.close()
    await wait_for(lambda: query(storage, _MEMBERS) == [(0,)], "the end of the membership")
    await remove(server, storage, admin)
    room_stays = remove is by_an_admin
    # It comes into being again with others' messages, fewer than were seen before.
    async with await WireClient.connect(server.url, client_id="other", room="lab:bench") as other:
        for number in (1, 2):
            await writer.publish(f"new {number}", room="lab", channel="bench", ack=True)
            await writer.publish(f"new {number}", room="lab", ack=True)
        await other.wait_seq("lab:bench", 2)
        if way == "registration":
            resume = {"token": reader.registered["resume_token"], "positions": old}
            back = await WireClient.connect(server.url, client_id="reader", room="ops:door", resume=resume)
            told = back.registered["channels"]
            rows = [told["lab:bench"], told["lab:*"]]
        else:
            back = await WireClient.connect(server.url, client_id="reader", room="ops:door")
            row = await back.join("lab", "bench", since=5, epoch=old["lab:bench"]["epoch"])
            rows = [row]
            # The room's own log begins at its head; its epoch says whether it is the one that was known.
            assert row["positions"]["lab:*"]["seq"] == (7 if room_stays else 2)
            assert (row["positions"]["lab:*"]["epoch"] == old["lab:*"]["epoch"]) is room_stays
        assert (rows[0]["recovered"], rows[0]["first_seq"], rows[0]["seq"]) == (False, 1, 2)
        assert rows[0]["epoch"] != old["lab:bench"]["epoch"]
        await back.wait_seq("lab:bench", 2)
        assert [frame["message"] for frame in back.messages("lab:bench")] == ["new 1", "new 2"]
        if way == "registration":
            place = {"recovered": True, "seq": 7} if room_stays else {"recovered": False, "first_seq": 1, "seq": 2}
            assert {**rows[1], **place} == rows[1]
            await back.wait_seq("lab:*", rows[1]["seq"])
            assert [frame["message"] for frame in back.messages("lab:*")] == ["new 1", "new 2"]
        live = await writer.publish("live", room="lab", channel="bench", ack=True)
        await back.wait_seq("lab:bench", live["seq"])
        live = await writer.publish("live", room="lab", ack=True)
        await back.wait_seq("lab:*", live["seq"])
        await back.close()
    for client in (admin, writer):
        await client.close()
