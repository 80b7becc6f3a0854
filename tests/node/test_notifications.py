"""Each notification of another process reaches the part that it concerns."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bus.auth.permissions import SYSTEM
from bus.node import Node
from bus.notify import messages
from bus.protocol.asking import reply_keys
from bus.protocol.errors import TAKEN_OVER, ErrorCode
from bus.protocol.names import inbox
from bus.services.ownership import taken_over_notification
from tests.harness.waiting import wait_for
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _member(node: Node, log: Log, name: str = "alice") -> NodeClient:
    client = NodeClient(node)
    await client.register(name)
    await client.join(str(log.ref.address))
    return client


async def _published(log: Log, *texts: str) -> messages.Published:
    room, channel = log.ref.address
    rows = [
        messages.CommittedMessage(log.ref.id, room, channel, made.epoch, made.seq or 0, made.frame)
        for made in await log.append(*texts)
    ]
    return messages.Published(rows)


async def test_committed_messages_are_delivered(node: Node, log: Log) -> None:
    client = await _member(node, log)
    node.notifications.receive(await _published(log, "one", "two"))
    await client.message("two")
    assert client.texts() == ["one", "two"]


async def test_the_first_message_of_an_inbox_attaches_it(node: Node, log: Log) -> None:
    client = await _member(node, log)
    box = Log(node, await node.channels.resolve(inbox("alice"), SYSTEM))
    node.notifications.receive(await _published(box, "letter"))
    await client.message("letter")
    assert client.state.inbox_id == box.ref.id


@pytest.mark.parametrize("here", [True, False])
async def test_a_reply_wakes_only_the_request_whose_question_it_answers(node: Node, log: Log, here: bool) -> None:
    box = Log(node, await node.channels.resolve(inbox("alice"), SYSTEM))

    async def came(keys: bytes) -> None:
        (made,) = await box.append("3")
        made.frame = b'{"type":"reply"%b,"payload":{}}' % keys
        if here:
            node.announcer.committed([made])
        else:
            row = messages.CommittedMessage(box.ref.id, *box.ref.address, made.epoch, made.seq or 0, made.frame)
            node.notifications.receive(messages.Published([row]))

    waiting = node.questions.waiting
    with waiting(1, "alice", "q1") as first, waiting(2, "alice", "q2") as second, waiting(3, "bob", "q1") as other:
        await came(b"")
        await came(reply_keys("q3", "", None))
        assert not first.is_set()
        await came(reply_keys("q1", "", None))
        assert (first.is_set(), second.is_set(), other.is_set()) == (True, False, False)


async def test_ephemeral_messages_are_delivered_once(node: Node, log: Log) -> None:
    client = await _member(node, log)
    frame = messages.EphemeralFrame(log.ref.id, b'{"message":"passing"}', "key")
    for _ in range(2):
        node.notifications.receive(messages.EphemeralPublished([frame]))
    await log.publish("mark")
    await client.message("mark")
    assert client.texts() == ["passing", "mark"]


async def test_a_changed_channel_is_looked_up_again(node: Node, log: Log) -> None:
    client = await _member(node, log)
    client.state.allowed[("join", log.ref.id)] = True
    room, channel = log.ref.address
    node.notifications.receive(messages.ChannelChanged(room, channel))
    assert node.channels.known(log.ref.address) is None
    assert not client.state.allowed
    await node.channels.resolve(log.ref.address, SYSTEM)
    node.notifications.receive(messages.ChannelChanged(room, ""))
    assert node.channels.known(log.ref.address) is None


async def test_a_deleted_channel_loses_its_members(node: Node, log: Log) -> None:
    client = await _member(node, log)
    room, channel = log.ref.address
    node.notifications.receive(messages.ChannelChanged(room, channel, log.ref.id))
    assert (await client.event("unsubscribed"))["reason"] == "DELETED"


async def test_a_presence_notice_is_shown_to_members(node: Node, log: Log) -> None:
    client = await _member(node, log)
    node.notifications.receive(messages.PresenceNotice(log.ref.id, b'{"message":"notice"}'))
    await client.message("notice")


async def test_a_change_of_rights_is_looked_at(node: Node) -> None:
    node.notifications.receive(messages.AccessChanged("user:7", 4711))
    assert 4711 in node.rights._seen


@pytest.mark.parametrize("by", ["client", "connection"])
async def test_a_dismissed_client_is_closed(node: Node, log: Log, by: str) -> None:
    client, other = await _member(node, log), await _member(node, log, "bob")
    connection_id = client.state.connection_id if by == "connection" else ""
    node.notifications.receive(messages.Dismiss("alice", connection_id, 4403, ErrorCode.REVOKED, "Go."))
    assert client.closed == (4403, "REVOKED")
    assert other.closed is None


@pytest.mark.parametrize(("later", "closed"), [(1, (TAKEN_OVER, "TAKEN_OVER")), (-1, None), (0, None)])
async def test_a_take_over_closes_only_older_connections(
    node: Node, log: Log, later: int, closed: tuple[int, str] | None
) -> None:
    client = await _member(node, log)
    key, number = client.state.order
    node.notifications.receive(taken_over_notification("alice", "elsewhere", (key, number + later)))
    assert client.closed == closed


async def test_another_thread_notifies_through_the_loop(node: Node, log: Log) -> None:
    client = await _member(node, log)
    notification = await _published(log, "from a thread")
    before = node.announcer.published
    thread = threading.Thread(target=node.receive_threadsafe, args=(notification,), kwargs={"pass_on": True})
    thread.start()
    await client.message("from a thread")
    await asyncio.to_thread(thread.join)
    await wait_for(lambda: node.announcer.published == before + 1, "the count")
