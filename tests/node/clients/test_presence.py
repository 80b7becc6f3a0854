"""Presence notices: who gets them, and how many frames they are."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from bus.auth.permissions import SYSTEM, Actor
from bus.models import Room
from bus.node import Node
from bus.protocol.names import Address
from bus.services import grants
from bus.services.nodes import Left
from bus.services.statuses import Said
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _members(node: Node, log: Log, *names: str) -> list[NodeClient]:
    """Clients that have joined the channel, the last of them alone at the end."""
    made = []
    for name in names:
        client = NodeClient(node)
        await client.register(name)
        await client.join(str(log.ref.address))
        made.append(client)
    return made


def _notices(client: NodeClient, log: Log) -> list[str]:
    """The notices about the channel that came until the last wait: each the event and whom it concerns."""
    found = []
    for frame in client.frames:
        payload = frame.get("payload") or {}
        if frame.get("channel") == log.ref.address.channel and payload.get("event") in ("client_joined", "client_left"):
            found.append(f"{payload['event']} {payload['client_id']} {payload['participants']}")
    return found


async def _settled(client: NodeClient, log: Log) -> None:
    """Everything that was delivered before has come."""
    await log.publish("mark")
    await client.message("mark")


async def test_members_see_others_join_and_leave_and_not_themselves(node: Node, log: Log) -> None:
    alice, bob = await _members(node, log, "alice", "bob")
    await bob.disconnect()
    await _settled(alice, log)
    assert _notices(alice, log) == ["client_joined bob 2", "client_left bob 1"]
    bob.frames.clear()
    assert _notices(bob, log) == []


async def test_a_channel_without_presence_has_no_notices(node: Node, log: Log) -> None:
    await node.runtime.run_writer(lambda: Room.objects.filter(name=log.ref.address.room).update(presence=False))
    node.channels.forget(log.ref.address)
    alice, _ = await _members(node, log, "alice", "bob")
    await _settled(alice, log)
    assert _notices(alice, log) == []


async def test_a_large_channel_gets_one_frame_for_many(node: Node, log: Log) -> None:
    node.runtime.settings = msgspec.structs.replace(
        node.runtime.settings, presence_coalesce=3600.0, presence_coalesce_above=1
    )
    alice, bob, _ = await _members(node, log, "alice", "bob", "carol")
    await bob.disconnect()
    node.notices.stop()
    gathered = await alice.event("presence")
    assert [card["client_id"] for card in gathered["joined"]] == ["carol"]
    assert [card["client_id"] for card in gathered["left"]] == ["bob"]
    assert gathered["participants"] == 2
    assert _notices(alice, log) == []


@pytest.mark.parametrize(("members", "times"), [(500, 1), (5_000, 5)])
async def test_the_notices_of_a_very_large_channel_are_gathered_longer(
    node: Node, log: Log, members: int, times: int
) -> None:
    (alice,) = await _members(node, log, "alice")
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, presence_coalesce=3600.0)
    node.notices.joined(alice.state, log.ref, members)
    pause = node.notices._timers[log.ref.id].when() - asyncio.get_running_loop().time()
    assert (times - 1) * 3600 < pause <= times * 3600


async def test_members_without_the_right_to_presence_get_no_notice(node: Node, log: Log) -> None:
    bounded, free = await _members(node, log, "alice", "bob")
    bounded.state.actor = Actor(client_id="alice", scopes=frozenset({"join", "publish"}))
    bounded.state.allowed.clear()
    await _members(node, log, "carol")
    await _settled(bounded, log)
    await _settled(free, log)
    assert "client_joined carol 3" in _notices(free, log)
    assert "client_joined carol 3" not in _notices(bounded, log)


async def test_a_rule_hides_presence_from_its_subjects(node: Node, log: Log) -> None:
    (alice,) = await _members(node, log, "alice")

    def hide() -> None:
        rule = {"subject": "anonymous", "action": "presence", "pattern": str(log.ref.address), "allow": False}
        grants.create(SYSTEM, rule, door="command")

    await node.runtime.run_writer(hide)
    await node.rights.catch_up()
    await _members(node, log, "bob")
    await _settled(alice, log)
    assert _notices(alice, log) == []


async def test_clients_of_a_dead_process_leave_their_channels(node: Node, log: Log) -> None:
    (alice,) = await _members(node, log, "alice")
    card = {"client_id": "gone", "client_type": "app", "screen_name": None, "avatar": None}
    node.notices.process_died([Left(card, log.ref, 1)])
    left = await alice.event("client_left")
    assert (left["client_id"], left["participants"]) == ("gone", 1)


async def test_a_notice_for_a_closed_stream_is_dropped(node: Node) -> None:
    node.notices.deliver(4711, b"{}")
    assert node.hub.stream(4711) is None
    assert node.channels.known(Address("no", "where")) is None


def _updates(client: NodeClient, log: Log) -> list[tuple[str, str | None]]:
    """The notices about statuses that came until the last wait: each client, and the word of its status."""
    here = [frame for frame in client.frames if frame.get("channel") == log.ref.address.channel]
    payloads = [frame["payload"] for frame in here if frame["type"] == "system"]
    rows = [payload for payload in payloads if payload["event"] == "client_updated"]
    rows += [row for payload in payloads if payload["event"] == "presence" for row in payload.get("updated", [])]
    return [(row["client_id"], row["status"] and row["status"]["status"]) for row in rows]


async def test_the_statuses_of_a_moment_are_one_notice_for_each_client(node: Node, log: Log) -> None:
    alice, bob, carol = await _members(node, log, "alice", "bob", "carol")
    await asyncio.gather(*(node.statuses.set(bob.state, Said(word)) for word in ("one", "two", "three")))
    await node.statuses.set(carol.state, Said("busy"))
    await alice.frame(lambda frame: ("carol", "busy") in _updates(alice, log), "carol's status")
    assert _updates(alice, log) == [("bob", "three"), ("carol", "busy")]


async def test_a_client_that_leaves_is_not_told_of_afterwards(node: Node, log: Log) -> None:
    alice, bob = await _members(node, log, "alice", "bob")
    await node.statuses.set(bob.state, Said("busy"))
    await bob.disconnect()
    node.notices.stop()
    await _settled(alice, log)
    assert _notices(alice, log) == ["client_joined bob 2", "client_left bob 1"]
    assert _updates(alice, log) == []


async def test_statuses_of_a_large_channel_are_gathered_with_its_joins_and_leaves(node: Node, log: Log) -> None:
    alice, bob, carol = await _members(node, log, "alice", "bob", "carol")
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, presence_coalesce_above=1)
    await node.statuses.set(bob.state, Said("busy"))
    await node.statuses.set(carol.state, Said("gone soon"))
    await carol.disconnect()
    frame = await alice.frame(
        lambda frame: frame.get("channel") == log.ref.address.channel and frame["payload"].get("event") == "presence",
        "the gathered notice",
    )
    told = frame["payload"]
    assert (told["updated_count"], told["left_count"], told["participants"]) == (1, 1, 2)
    assert _updates(alice, log) == [("bob", "busy")]
