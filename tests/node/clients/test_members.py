"""Joining and leaving: a member gets what is published from the join on, once."""

from __future__ import annotations

import msgspec
import pytest

from bus.auth.permissions import SYSTEM
from bus.models import Channel, Membership
from bus.node import Node
from bus.protocol.errors import SLOW, BusError
from bus.protocol.names import Address
from bus.services.channels import update_channel
from bus.services.rooms import update_room
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient, entry

pytestmark = pytest.mark.django_db(transaction=True)


async def _publish(node: Node, log: Log, text: str) -> None:
    """Publish through the node's own log writer."""
    made = entry(log.ref, text)
    node.log.append(made)
    await node.log.drained()


async def _rows(node: Node, log: Log) -> int:
    return await node.runtime.run_writer(lambda: Membership.objects.filter(channel_id=log.ref.id).count())


@pytest.fixture
async def client(node: Node) -> NodeClient:
    """A registered client."""
    made = NodeClient(node)
    await made.register("alice")
    return made


async def test_a_member_gets_the_channel_and_the_whole_room(node: Node, log: Log, client: NodeClient) -> None:
    joined = await client.join(str(log.ref.address))
    room = Address(log.ref.address.room, "*")
    assert (joined.participants, joined.seq, joined.recovered, joined.new) == (1, 0, None, True)
    assert joined.positions.keys() == {str(log.ref.address), str(room)}
    whole = Log(node, await node.channels.resolve(room, SYSTEM))
    await _publish(node, log, "one")
    await _publish(node, whole, "to all")
    await client.message("to all")
    assert client.texts() == ["one", "to all"]
    assert await _rows(node, log) == 1


async def test_a_join_with_a_position_brings_what_was_missed(node: Node, log: Log, client: NodeClient) -> None:
    await log.append("one", "two")
    joined = await client.join(str(log.ref.address), since=1)
    assert (joined.recovered, joined.first_seq, joined.position) == (True, None, 1)
    await client.message("two")
    await _publish(node, log, "three")
    await client.message("three")
    assert client.texts() == ["two", "three"]


async def test_a_member_that_joins_again_stays_one(node: Node, log: Log, client: NodeClient) -> None:
    await client.join(str(log.ref.address))
    await _publish(node, log, "one")
    again = await client.join(str(log.ref.address))
    assert (again.new, again.position, again.seq, again.participants) == (False, None, 1, 1)
    await client.join(str(log.ref.address), since=0)
    await wait_for(lambda: not client.state.replays, "the replay")
    await _publish(node, log, "two")
    await client.message("two")
    assert client.texts() == ["one", "one", "two"]


async def test_a_client_that_leaves_gets_nothing_more(node: Node, log: Log, client: NodeClient) -> None:
    left_over = list(client.state.memberships.values())
    await client.join(str(log.ref.address))
    assert await node.members.leave(client.state, log.ref.address) == [str(ref.address) for ref in left_over]
    assert client.state not in node.hub.streams[log.ref.id].members
    assert log.ref.address.room not in client.state.rooms
    assert await _rows(node, log) == 0
    with pytest.raises(BusError, match="NOT_A_MEMBER"):
        await node.members.leave(client.state, log.ref.address)


async def test_only_a_channel_can_be_joined(client: NodeClient, fresh_room: str) -> None:
    with pytest.raises(BusError, match="INVALID_NAME"):
        await client.join(f"{fresh_room}:*")


async def test_memberships_are_bounded(node: Node, client: NodeClient, fresh_room: str) -> None:
    node.runtime.settings = msgspec.structs.replace(node.runtime.settings, memberships=2)
    await client.join(f"{fresh_room}:one")
    with pytest.raises(BusError, match="LIMIT_REACHED"):
        await client.join(f"{fresh_room}:two")
    # One that it is in already is none more.
    await client.join(f"{fresh_room}:one")


async def test_a_channel_that_was_deleted_elsewhere_is_made_again(node: Node, log: Log, client: NodeClient) -> None:
    """This process still remembers the channel that another one has deleted."""
    await node.runtime.run_writer(lambda: Channel.objects.filter(id=log.ref.id).delete())
    joined = await client.join(str(log.ref.address))
    assert joined.ref.id != log.ref.id
    assert joined.participants == 1


async def test_a_room_that_becomes_private_during_a_join_admits_nobody(
    node: Node, log: Log, client: NodeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = log.ref.address.room
    join = node.presence_tables.join

    async def hidden_meanwhile(*arguments):  # type: ignore[no-untyped-def]
        participants = await join(*arguments)
        await node.runtime.run_writer(lambda: update_room(SYSTEM, room, {"private": True}, door="command"))
        await node.rights.catch_up()
        return participants

    monkeypatch.setattr(node.presence_tables, "join", hidden_meanwhile)
    await client.join(str(log.ref.address))
    assert (await client.event("unsubscribed"))["reason"] == "REVOKED"
    await wait_for(lambda: log.ref.id not in client.state.memberships, "the end of the membership")


async def test_a_deleted_log_ends_memberships(node: Node, log: Log, client: NodeClient) -> None:
    await client.join(str(log.ref.address))
    node.memberships.drop_log(log.ref.id, None)
    assert (await client.event("unsubscribed"))["reason"] == "DELETED"
    assert client.closed is None
    assert node.hub.stream(log.ref.id) is None


async def test_a_deleted_log_of_a_whole_room_closes_its_members(node: Node, log: Log, client: NodeClient) -> None:
    await client.join(str(log.ref.address))
    (whole,) = node.hub.of_room(log.ref.address.room)
    node.memberships.drop_log(whole.id, None)
    assert client.closed == (SLOW, "RESTARTING")


async def test_a_change_of_a_channel_is_found_at_the_next_join(node: Node, log: Log, client: NodeClient) -> None:
    await node.runtime.run_writer(
        lambda: update_channel(SYSTEM, log.ref.address, {"ephemeral": True}, door="command"),
    )
    node.channels.forget(log.ref.address)
    assert (await client.join(str(log.ref.address))).ref.ephemeral
