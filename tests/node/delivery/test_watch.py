"""The watch finds what no notification announced."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from bus.auth.permissions import SYSTEM
from bus.log import erasures
from bus.models import Channel, new_epoch
from bus.node import Node
from bus.protocol.amending import ErasedMessage
from bus.protocol.errors import SLOW
from bus.protocol.names import inbox
from bus.services.erasing import erase_message
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_commit_without_a_notification_is_delivered(node: Node, log: Log) -> None:
    client = NodeClient(node)
    (stream,) = await node.streams.open([log.ref])
    node.hub.add(stream, client.state)
    await log.append("one", "two")
    assert await node.watch.compare() == node.runtime.settings.heartbeat
    await client.message("two")
    assert client.texts() == ["one", "two"]


async def test_an_old_commit_is_found_by_the_comparison_of_all_streams(node: Node, log: Log) -> None:
    client = NodeClient(node)
    (stream,) = await node.streams.open([log.ref])
    node.hub.add(stream, client.state)
    await node.watch.compare()
    await log.append("late")
    # As if its transaction had been open for an hour.
    await node.runtime.run_writer(_touched_long_ago, log.ref.id)
    node.watch.compare_all_next()
    await node.watch.compare()
    await client.message("late")


async def test_members_hear_once_of_an_erase_without_a_notification(node: Node, log: Log) -> None:
    client = NodeClient(node)
    (stream,) = await node.streams.open([log.ref])
    node.hub.add(stream, client.state)
    await log.publish("one", "two")
    await node.watch.compare()
    await node.runtime.run_writer(lambda: erase_message(log.ref.address, seq=1))
    await node.watch.compare()
    assert [told["seq"] for told in (await client.event("erased"))["messages"]] == [1]
    assert stream.recent is None
    node.streams.erased(log.ref.id, [ErasedMessage(1, "late"), ErasedMessage(2, "other")])
    await node.watch.compare()
    await client.frame(lambda frame: "other" in str(frame), "the second notice")
    told = [frame["payload"]["messages"] for frame in client.frames if frame["type"] == "system"]
    assert [[each["seq"] for each in some] for some in told] == [[1], [2]]


def _touched_long_ago(channel_id: int) -> None:
    Channel.objects.filter(id=channel_id).update(touched_at=timezone.now() - timedelta(hours=1))


async def test_members_of_a_deleted_channel_hear_that_it_is_gone(node: Node, log: Log) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await client.join(str(log.ref.address))
    await node.runtime.run_writer(lambda: Channel.objects.filter(id=log.ref.id).delete())
    node.watch.compare_all_next()
    await node.watch.compare()
    assert (await client.event("unsubscribed"))["reason"] == "DELETED"
    assert log.ref.id not in client.state.memberships


async def test_members_of_a_log_with_a_new_epoch_are_closed(node: Node, log: Log) -> None:
    client = NodeClient(node)
    await client.register("alice")
    await client.join(str(log.ref.address))
    await node.runtime.run_writer(lambda: Channel.objects.filter(id=log.ref.id).update(epoch=new_epoch()))
    node.watch.compare_all_next()
    await node.watch.compare()
    assert client.closed == (SLOW, "RESTARTING")


@pytest.mark.parametrize("everything", [False, True], ids=["moved lately", "all streams"])
async def test_a_new_inbox_is_attached_to_its_client(node: Node, everything: bool) -> None:
    client = NodeClient(node)
    await client.register("alice")
    assert not client.state.inbox_id
    box = Log(node, await node.channels.resolve(inbox("alice"), SYSTEM))
    await box.append("letter")
    if everything:
        await node.runtime.run_writer(_touched_long_ago, box.ref.id)
        node.watch.compare_all_next()
    await node.watch.compare()
    await client.message("letter")
    assert client.state.inbox_id == box.ref.id


async def test_an_erasure_without_a_notification_is_found(node: Node, log: Log) -> None:
    client = NodeClient(node)
    (stream,) = await node.streams.open([log.ref])
    node.hub.add(stream, client.state)
    await log.publish("a text", "another")
    await node.watch.compare()
    remembered = stream.recent_after(0)
    assert remembered is not None
    assert b"a text" in remembered[0].frame
    # Another process, whose notification is lost.
    await node.runtime.run_writer(_erased, log.ref.id)
    await node.watch.compare()
    assert stream.recent_after(0) is None
    late = NodeClient(node)
    await late.register()
    await late.join(str(log.ref.address), since=0)
    await late.message("another")
    assert (late.texts(), [frame["seq"] for frame in late.frames if frame.get("erased")]) == (["another"], [1])


def _erased(channel_id: int) -> None:
    with transaction.atomic():
        assert [message.seq for message in erasures.erase(channel_id, [1])] == [1]
