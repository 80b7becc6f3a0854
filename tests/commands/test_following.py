"""The commands follow and unfollow, and `last` of join_channel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer


def _texts(client: WireClient, address: str) -> list[str]:
    return [frame["message"] for frame in client.messages(address)]


async def _write(client: WireClient, room: str, channel: str, *texts: str) -> None:
    for text in texts:
        await client.publish(text, room=room, channel=channel, ack=True)


async def test_an_observer_gets_every_channel_of_the_room_and_nobody_sees_it(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    room = fresh_room
    member = await wire(shared_server, room=room, channel="a")
    await member.join(room, "b")
    await _write(member, room, "a", "before")
    observer = await wire(shared_server, dialect=dialect)
    result = await observer.request("follow", room=room)
    assert (result["room"], result["truncated"]) == (room, False)
    assert set(result["channels"]) == {"a", "b", "*"}
    place = result["channels"]["a"]
    assert (place["seq"], place["recovered"]) == (1, None)
    await _write(member, room, "a", "one")
    await _write(member, room, "b", "two")
    await member.publish("to all", room=room, ack=True)
    await observer.expect("event", message="one")
    await observer.expect("event", message="two")
    await observer.expect("event", message="to all")
    assert _texts(observer, f"{room}:a") == ["one"]
    info = await member.request("channel_info", room=room, channel="a")
    assert [who["client_id"] for who in info["participants"]] == [member.client_id]
    assert member.frames.count({"event": "client_joined"}) == 0
    assert not [f for f in member.frames if f.get("payload", {}).get("client_id") == observer.client_id]
    with pytest.raises(WireError) as refused:
        await observer.request("leave_channel", room=room, channel="a")
    assert refused.value.code == "NOT_A_MEMBER"


async def test_channels_to_come_are_followed_from_their_first_message(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    observer, author = await wire(shared_server), await wire(shared_server)
    assert (await observer.request("follow", room=fresh_room))["channels"] == {}
    await asyncio.gather(*(_write(author, fresh_room, f"c{n}", "1", "2", "3") for n in range(5)))
    await author.publish("to all", room=fresh_room, ack=True)
    for n in range(5):
        address = f"{fresh_room}:c{n}"
        notice = await observer.expect("system", "followed", channel=f"c{n}")
        assert notice["payload"]["seq"] == 0
        await observer.wait_messages(address, 3)
        assert _texts(observer, address) == ["1", "2", "3"]
        at = observer.frames.index(notice)
        assert all(observer.frames.index(frame) > at for frame in observer.messages(address))
    await observer.expect("event", message="to all")


async def test_a_position_brings_what_was_missed_and_unfollow_ends_it(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    author, observer = await wire(shared_server), await wire(shared_server)
    await _write(author, fresh_room, "a", *"12345")
    await _write(author, fresh_room, "b", *"12")
    first = (await observer.request("follow", room=fresh_room))["channels"]
    assert (await observer.request("unfollow", room=fresh_room)) == {"room": fresh_room, "rooms": []}
    positions: dict[str, Any] = {"a": {"seq": 2, "epoch": first["a"]["epoch"]}, "b": {"seq": 1, "epoch": "other"}}
    again = (await observer.request("follow", room=fresh_room, positions=positions))["channels"]
    assert (again["a"]["recovered"], again["a"]["seq"]) == (True, 5)
    assert (again["b"]["recovered"], again["b"]["first_seq"]) == (False, 1)
    await observer.wait_messages(f"{fresh_room}:a", 3)
    await observer.wait_messages(f"{fresh_room}:b", 2)
    await observer.request("unfollow", room=fresh_room)
    await _write(author, fresh_room, "a", "6")
    await _write(author, fresh_room, "new", "1")
    await observer.ping()
    assert _texts(observer, f"{fresh_room}:a") == ["3", "4", "5"]
    with pytest.raises(WireError) as refused:
        await observer.request("unfollow", room=fresh_room)
    assert refused.value.code == "NOT_A_MEMBER"


async def test_a_member_that_follows_gets_each_message_once(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    author, both = await wire(shared_server), await wire(shared_server, room=fresh_room, channel="a")
    address = f"{fresh_room}:a"
    await _write(author, fresh_room, "a", "1")
    await both.wait_messages(address, 1)
    followed = await both.request("follow", room=fresh_room, positions={"a": {"seq": 0}})
    assert followed["channels"]["a"]["recovered"] is None
    await _write(author, fresh_room, "a", "2")
    await both.leave(fresh_room, "a")
    await _write(author, fresh_room, "a", "3")
    assert (await both.join(fresh_room, "a"))["seq"] == 3
    await both.request("unfollow", room=fresh_room)
    await _write(author, fresh_room, "a", "4")
    await author.publish("all", room=fresh_room, ack=True)
    await both.expect("event", message="all")
    await both.request("follow", room=fresh_room)
    assert (await both.join(fresh_room, "a", since=2))["recovered"] is True
    await both.wait_messages(address, 6)
    assert _texts(both, address) == ["1", "2", "3", "4", "3", "4"]
    assert _texts(both, f"{fresh_room}:*") == ["all"]


async def test_a_deleted_channel_ends_and_its_successor_begins(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str
) -> None:
    admin, observer = await wire(shared_server, token=admin_token), await wire(shared_server)
    await admin.request("create_channel", room=fresh_room, channel="a")
    await observer.request("follow", room=fresh_room)
    await _write(admin, fresh_room, "a", "old")
    await observer.expect("event", message="old")
    await admin.request("delete_channel", room=fresh_room, channel="a")
    assert (await observer.expect("system", "unfollowed"))["payload"]["reason"] == "DELETED"
    await admin.request("create_channel", room=fresh_room, channel="a")
    await _write(admin, fresh_room, "a", "new")
    assert (await observer.expect("system", "followed"))["payload"]["seq"] == 0
    await observer.expect("event", message="new")
    assert not observer.closed


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"room": "pm"}, "INVALID_NAME"),
        ({"room": "*"}, "INVALID_NAME"),
        ({"room": "two words"}, "INVALID_NAME"),
        ({"room": "science:explore"}, "VALIDATION_ERROR"),
        ({"room": 5}, "VALIDATION_ERROR"),
        ({"positions": []}, "VALIDATION_ERROR"),
        ({"positions": {"a": 5}}, "VALIDATION_ERROR"),
        ({"positions": {"a": {"seq": -1}}}, "VALIDATION_ERROR"),
        ({"positions": {"a": {"seq": 2**63}}}, "VALIDATION_ERROR"),
    ],
)
async def test_a_wrong_follow_is_refused(
    shared_server: BusServer, wire: Connect, parameters: dict[str, Any], code: str
) -> None:
    client = await wire(shared_server)
    with pytest.raises(WireError) as refused:
        await client.request("follow", **parameters)
    assert refused.value.code == code


async def test_a_connection_follows_few_rooms(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    client = await wire(shared_server)
    for n in range(20):
        await client.request("follow", room=f"{fresh_room}-{n}")
    with pytest.raises(WireError) as refused:
        await client.request("follow", room=fresh_room)
    assert (refused.value.code, refused.value.details[0]["limit"]) == ("LIMIT_REACHED", "followed_rooms")
    assert len((await client.request("unfollow", room=f"{fresh_room}-3"))["rooms"]) == 19
    await client.request("follow", room=fresh_room)


async def test_a_join_answers_with_the_last_messages(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    author = await wire(shared_server)
    await _write(author, fresh_room, "a", *"12345")
    address = f"{fresh_room}:a"
    client = await wire(shared_server, dialect=dialect)
    joined = await client.join(fresh_room, "a", last=3)
    assert ([frame["message"] for frame in joined["messages"]], joined["seq"]) == (["3", "4", "5"], 5)
    assert [frame["seq"] for frame in joined["messages"]] == [3, 4, 5]
    await _write(author, fresh_room, "a", "6")
    await client.expect("event", message="6")
    assert _texts(client, address) == ["6"]
    assert len((await client.join(fresh_room, "a", last=100))["messages"]) == 6
    assert (await client.join(fresh_room, "a", last=0))["messages"] == []
    assert "messages" not in await client.join(fresh_room, "a")
    for wrong in ({"last": 101}, {"last": -1}, {"last": 1, "since": 0}):
        with pytest.raises(WireError) as refused:
            await client.join(fresh_room, "a", **wrong)
        assert refused.value.code == "VALIDATION_ERROR"


async def test_last_and_what_follows_have_no_hole_and_no_repetition_under_load(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    author = await wire(shared_server)
    address = f"{fresh_room}:a"
    writing = asyncio.create_task(_write(author, fresh_room, "a", *map(str, range(150))))
    readers = [await wire(shared_server) for _ in range(5)]
    answers = await asyncio.gather(*(reader.join(fresh_room, "a", last=20) for reader in readers))
    await writing
    for reader, answer in zip(readers, answers, strict=True):
        await reader.wait_seq(address, 150)
        first = [frame["seq"] for frame in answer["messages"]]
        live = [frame["seq"] for frame in reader.messages(address)]
        assert first + live == list(range((first + live)[0], 151))


async def test_the_last_messages_are_as_many_as_fit(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    author, client = await wire(shared_server), await wire(shared_server)
    await _write(author, fresh_room, "a", *("x" * 50_000 for _ in range(10)))
    joined = await client.join(fresh_room, "a", last=10)
    assert [frame["seq"] for frame in joined["messages"]] == [8, 9, 10]
