"""A registration gives a connection its identity, its channels, and the messages it missed."""

from __future__ import annotations

from typing import Any

import pytest

from bus.auth.permissions import SYSTEM
from bus.models import Client, Membership
from bus.node import Node
from bus.protocol.errors import SLOW, TAKEN_OVER, BusError, Closing, ErrorCode
from bus.protocol.names import inbox
from bus.protocol.registration import Resume
from bus.protocol.state import State
from tests.node.conftest import Log, NodeClient

pytestmark = pytest.mark.django_db(transaction=True)


async def _members(node: Node) -> list[str]:
    """The memberships in the database, as "client room:channel"."""

    def read() -> list[str]:
        rows = Membership.objects.values_list("client__client_id", "channel__room__name", "channel__name")
        return sorted(f"{client} {room}:{channel}" for client, room, channel in rows)

    return await node.runtime.run_writer(read)


async def test_a_client_gets_its_identity_and_the_default_channel(node: Node) -> None:
    client = NodeClient(node)
    answer = await client.register("alice", client_type="robot", screen_name="Al")
    default = f"{answer['room']}:{answer['channel']}"
    assert (answer["client_id"], answer["client_type"], answer["participants"]) == ("alice", "robot", 1)
    assert answer["channels"].keys() == {default, f"{answer['room']}:*", "*:*", "pm:alice"}
    assert node.clients.by_id == {"alice": client.state}
    assert client.state.state is State.REGISTERED
    assert await _members(node) == [f"alice {default}"]


async def test_a_client_without_an_id_keeps_the_one_of_its_connection(node: Node) -> None:
    client = NodeClient(node)
    assert (await client.register())["client_id"] == f"client-{client.state.connection_id}"
    assert await node.runtime.run(lambda: Client.objects.get().generated)


async def test_a_client_that_comes_back_gets_its_channels_and_what_it_missed(node: Node, log: Log) -> None:
    client = NodeClient(node)
    token = (await client.register("alice"))["resume_token"]
    joined = await client.join(str(log.ref.address))
    await client.disconnect()
    await log.publish("missed", "too")
    back = NodeClient(node)
    place = {"epoch": joined.epoch, "seq": joined.seq}
    resume = Resume(token=token, positions={str(log.ref.address): place, "*:*": {"seq": 0}, "nowhere:here": {"seq": 0}})
    answer = await back.register("alice", resume=resume)
    await back.message("too")
    assert back.texts() == ["missed", "too"]
    assert answer["channels"][str(log.ref.address)] == {"epoch": joined.epoch, "seq": 2, "recovered": True}
    assert f"alice {log.ref.address}" in await _members(node)
    assert back.state in node.hub.streams[log.ref.id].members


async def test_another_epoch_is_a_hole(node: Node, log: Log) -> None:
    await log.append("one")
    client = NodeClient(node)
    place = {"epoch": "another", "seq": 7}
    answer = await client.register("alice", resume=Resume(positions={str(log.ref.address): place}))
    told = answer["channels"][str(log.ref.address)]
    assert (told["recovered"], told["first_seq"]) == (False, 1)
    await client.message("one")


async def test_a_newer_connection_takes_the_id_over(node: Node) -> None:
    older, newer = NodeClient(node), NodeClient(node)
    token = (await older.register("alice"))["resume_token"]
    await newer.register("alice", resume=Resume(token=token))
    assert older.closed == (TAKEN_OVER, "TAKEN_OVER")
    assert node.clients.by_id == {"alice": newer.state}
    await older.disconnect(TAKEN_OVER)
    # The end of the older connection takes nothing away from the newer one.
    assert len(await _members(node)) == 1


async def test_an_answer_that_comes_after_a_newer_one_ends_its_connection(node: Node) -> None:
    client = NodeClient(node)
    await client.register("alice")
    client.state.order = (client.state.order[0] + 1, 0)
    late = NodeClient(node)
    with pytest.raises(Closing) as closing:
        await late.register("alice", resume=Resume(token=client.state.resume_token))
    assert closing.value.close_code == TAKEN_OVER
    assert node.clients.by_id == {"alice": client.state}


async def test_letters_of_an_earlier_owner_are_withheld(node: Node) -> None:
    first = NodeClient(node)
    await first.register("alice")
    await first.disconnect()
    box = Log(node, await node.channels.resolve(inbox("alice"), SYSTEM))
    await box.append("secret")
    other = NodeClient(node)
    answer = await other.register("alice", resume=Resume(positions={"pm:alice": {"seq": 0}}))
    assert answer["channels"]["pm:alice"]["withheld"] is True
    await box.append("mine")
    await node.watch.compare()
    await other.message("mine")
    assert other.texts() == ["mine"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [({"room": "*"}, "INVALID_NAME"), ({"since": "yesterday"}, "VALIDATION_ERROR")],
)
async def test_what_cannot_be_is_refused_and_the_connection_goes_on(
    node: Node, wanted: dict[str, Any], code: str
) -> None:
    client = NodeClient(node)
    with pytest.raises(BusError, match=code):
        await client.register("alice", **wanted)
    assert client.state.state is State.CONNECTED
    await client.register("alice")


async def test_half_a_registration_closes_the_connection(node: Node, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim is written and the channels cannot be read: half a registration is none."""

    async def refused(*_: Any) -> Any:
        raise BusError(ErrorCode.UNAVAILABLE)

    monkeypatch.setattr(node.presence_tables, "join", refused)
    other = NodeClient(node)
    with pytest.raises(Closing) as closing:
        await other.register("bob", resume=Resume(positions={str(log.ref.address): {"seq": 0}}))
    assert closing.value.close_code == SLOW
