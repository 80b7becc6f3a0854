"""Observers: who follows a room gets the channels that it may join now, and no other one."""

from __future__ import annotations

from typing import Any

import pytest

from bus.auth import identity
from bus.auth.permissions import SYSTEM, Actor
from bus.models import Channel, Grant, Membership, Room
from bus.node import Node
from bus.node.clients.observers import Followed
from bus.services import grants, tokens
from bus.services.channels import delete_channel
from bus.services.rooms import update_room
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _observer(node: Node, name: str) -> NodeClient:
    """A registered client with an access token."""

    def make() -> Actor:
        _, secret = tokens.create(SYSTEM, name, door="command")
        return identity.from_token(secret)

    client = NodeClient(node, await node.runtime.run_writer(make))
    node.rights.identified(client.state)
    await client.register(name)
    return client


async def _follow(node: Node, client: NodeClient, room: str, positions: Any = None) -> Followed:
    followed = await node.observers.follow(client.state, room, positions or {})
    node.observers.begin(client.state, followed)
    return followed


async def _rule(node: Node, pattern: str, name: str, *, allow: bool) -> None:
    rule = {"subject": "token", "subject_name": name, "action": "join", "pattern": pattern, "allow": allow}
    await node.runtime.run_writer(lambda: grants.create(SYSTEM, rule, door="command"))
    await node.rights.look()


async def _idle(node: Node) -> None:
    """Wait until the observers have looked at everything."""
    await node.observers.look()
    await wait_for(lambda: node.observers._task is None or node.observers._task.done(), "the observers are idle")


async def test_a_right_that_goes_and_comes_back_ends_a_channel_and_begins_it_at_its_head(node: Node, log: Log) -> None:
    client, address = await _observer(node, "robot"), str(log.ref.address)
    assert set((await _follow(node, client, log.ref.address.room)).channels) == {"hall"}
    await log.publish("one")
    await client.message("one")
    await _rule(node, address, "robot", allow=False)
    assert (await client.event("unfollowed"))["reason"] == "REVOKED"
    await log.publish("two")
    await node.runtime.run_writer(lambda: Grant.objects.all().delete())
    await node.rights.look()
    assert (await client.event("followed"))["seq"] == 2
    await log.publish("three")
    await client.message("three")
    assert client.texts() == ["one", "three"]
    assert client.closed is None


async def test_a_hidden_room_is_followed_like_a_missing_one_until_it_opens(node: Node, log: Log) -> None:
    room = log.ref.address.room
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    client = await _observer(node, "robot")
    hidden, missing = await _follow(node, client, room), await _follow(node, client, f"{room}-missing")
    assert (hidden.channels, hidden.truncated) == (missing.channels, missing.truncated) == ({}, False)
    await log.publish("secret")
    await _idle(node)
    assert [frame for frame in client.frames if frame["type"] != "system"] == []
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": False}, door="command"))
    await node.rights.look()
    assert (await client.event("followed"))["channel"] == "hall"
    await log.publish("open")
    await client.message("open")
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    await node.rights.look()
    await client.event("unfollowed")
    await log.publish("secret again")
    await _idle(node)
    assert "secret again" not in client.texts()


async def test_a_new_channel_without_a_notification_is_found_with_all_of_its_messages(node: Node, log: Log) -> None:
    room = log.ref.address.room
    client = await _observer(node, "robot")
    await _follow(node, client, room)
    await _idle(node)  # Its own look for changes must not find the channel while it is still empty.

    def make() -> Channel:
        return Channel.objects.create(room=Room.objects.get(name=room), name="later")

    made = await node.runtime.run_writer(make)
    later = Log(node, (await node.channels.resolve(made.address, SYSTEM, create=False)))
    await later.append("one", "two")
    await _idle(node)
    assert await client.event("followed") == {
        "event": "followed", "room": room, "channel": "later", "epoch": made.epoch, "seq": 0,
    }  # fmt: skip
    await client.message("two")
    await later.publish("three")
    await client.message("three")
    assert client.texts() == ["one", "two", "three"]
    assert await node.runtime.run_writer(Membership.objects.filter(channel=made).count) == 0


async def test_a_deleted_channel_is_told_to_a_member_and_to_an_observer(node: Node, log: Log) -> None:
    client, both = await _observer(node, "robot"), await _observer(node, "both")
    await _follow(node, client, log.ref.address.room)
    await both.join(str(log.ref.address))
    await _follow(node, both, log.ref.address.room)
    await node.runtime.run_writer(Membership.objects.filter(channel_id=log.ref.id).delete)
    await node.runtime.run_writer(lambda: delete_channel(SYSTEM, log.ref.address))
    node.memberships.drop_log(log.ref.id, None)
    for one in (client, both):
        assert (await one.event("unfollowed"))["reason"] == "DELETED"
        assert one.closed is None
    assert (await both.event("unsubscribed"))["reason"] == "DELETED"


async def test_a_thousand_channels_are_followed_at_once_and_no_more(node: Node, log: Log) -> None:
    room = log.ref.address.room

    def make() -> None:
        place = Room.objects.get(name=room)
        Channel.objects.bulk_create(Channel(room=place, name=f"c{n}") for n in range(1_005))

    await node.runtime.run_writer(make)
    client = await _observer(node, "robot")
    followed = await _follow(node, client, room)
    assert (len(followed.channels), followed.truncated) == (1_000, True)
    await _idle(node)
    assert len(client.state.followed) == 1_000
    # A place that becomes free is taken.
    address = next(ref.address for ref in client.state.followed.values() if ref.address.channel != "hall")
    ref = await node.channels.resolve(address, SYSTEM, create=False)
    await node.runtime.run_writer(lambda: delete_channel(SYSTEM, address))
    node.memberships.drop_log(ref.id, None)
    await client.event("followed")
    assert len(client.state.followed) == 1_000
    await client.disconnect()
    assert not client.state.followed
    assert not any(client.state in stream.members for stream in node.hub.streams.values())


async def test_the_log_of_the_room_comes_and_goes_with_the_channels(node: Node, log: Log) -> None:
    room = log.ref.address.room
    await node.channels.room_log(log.ref)
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    client = await _observer(node, "robot")
    assert (await _follow(node, client, room)).channels == {}
    await _rule(node, f"{room}:hall", "robot", allow=True)
    await wait_for(lambda: len(client.state.followed) == 2, "the channel and the room's log are followed")
    assert {ref.address.channel for ref in client.state.followed.values()} == {"hall", "*"}
    await node.runtime.run_writer(lambda: Grant.objects.all().delete())
    await node.rights.look()
    await wait_for(lambda: not client.state.followed, "both have ended")


async def test_the_log_of_a_private_room_ends_with_the_last_channel_that_is_deleted(node: Node, log: Log) -> None:
    room = log.ref.address.room
    await node.channels.room_log(log.ref)
    await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
    client = await _observer(node, "robot")
    await _rule(node, f"{room}:hall", "robot", allow=True)
    assert set((await _follow(node, client, room)).channels) == {"hall", "*"}
    await node.runtime.run_writer(lambda: delete_channel(SYSTEM, log.ref.address))
    node.memberships.drop_log(log.ref.id, None)
    assert not client.state.followed
    await client.event("unfollowed")
