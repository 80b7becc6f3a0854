"""Appends of a connection: without waiting where it knows the stream's channel, else after a look-up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from bus.directory.streams import stream_not_found
from bus.models import Room
from bus.node import Node
from bus.protocol.names import Address
from bus.sockets import appends, dispatch
from tests.harness.waiting import wait_for
from tests.sockets.conftest import Client, Connect
from tests.sockets.test_dispatch import registered

pytestmark = pytest.mark.django_db(transaction=True)

HALL = Address("lab", "bench")


def begin(client: Client, **frame: Any) -> bool:
    """Serve a frame as far as that goes without waiting; whether that was to its end."""
    return dispatch.begin(client.connection, json.dumps(frame).encode()) is None


def append(of: str, n: int, **keys: Any) -> dict[str, Any]:
    """The frame of an append."""
    return {"type": "append", "of": of, "n": n, "id": f"{of}-{n}", "ack": True, "delta": "x", **keys}


async def answer(client: Client, request_id: str) -> dict[str, Any]:
    """The answer to a frame."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [frame for frame in client.frames() if frame.get("request_id") == request_id]
        return bool(found)

    await wait_for(there, f"the answer to {request_id}")
    return found[-1]


async def test_parts_behind_their_opening_do_not_wait(connect: Connect) -> None:
    ada = await registered(connect, "ada-s1")
    assert begin(ada, type="event", id="s1", stream={})
    assert all(begin(ada, **append("arq_s1", n)) for n in (1, 2, 3))
    assert ada.connection.client.streams == {"arq_s1": HALL}
    # Only the commit decides, so a gap is found there.
    assert begin(ada, **append("arq_s1", 5))
    assert begin(ada, **append("arq_s1", 4, end="complete"))
    assert ada.connection.client.streams == {}
    assert (await answer(ada, "arq_s1-5"))["error"]["code"] == "STREAM_GAP"
    assert (await answer(ada, "arq_s1-4"))["stream"]["state"] == "complete"


async def test_a_stream_that_the_connection_does_not_know_is_looked_up_once(connect: Connect) -> None:
    ada = await registered(connect, "ada-s2")
    # Without an id of its own, the client learns the name from the ack.
    assert begin(ada, type="event", stream={}, ack=True)
    await wait_for(lambda: any(frame["type"] == "ack" for frame in ada.frames()), "the ack")
    of = next(frame["stream"]["of"] for frame in ada.frames() if frame["type"] == "ack")
    assert not begin(ada, **append(of, 1))
    await ada.send(**append(of, 1))
    assert (await answer(ada, f"{of}-1"))["stream"]["have"] == 1
    assert begin(ada, **append(of, 2))
    assert (await answer(ada, f"{of}-2"))["stream"]["have"] == 2


async def test_a_stranger_is_looked_up_each_time_and_remembers_nothing(connect: Connect) -> None:
    ada, eve = await registered(connect, "ada-s3"), await registered(connect, "eve-s3")
    begin(ada, type="event", id="s3", stream={}, ack=True)
    await answer(ada, "s3")
    for of in ("arq_s3", "arq_s3", "arq_none"):
        await eve.send(**append(of, 1))
        code = (await answer(eve, f"{of}-1"))["error"]["code"]
        assert code == ("STREAM_LOST" if of == "arq_s3" else "STREAM_NOT_FOUND")
    assert eve.connection.client.streams == {}


async def test_a_room_that_becomes_private_is_closed_to_its_owners_too(node: Node, connect: Connect) -> None:
    ada = await registered(connect, "ada-s4")
    begin(ada, type="event", id="s4", stream={}, ack=True)
    await answer(ada, "s4")
    await sync_to_async(Room.objects.filter(name="lab").update)(private=True)
    # As the notification of that change does.
    node.channels.forget_room("lab")
    node.clients.forget_permissions()
    assert not begin(ada, **append("arq_s4", 1))
    await ada.send(**append("arq_s4", 1))
    error = (await answer(ada, "arq_s4-1"))["error"]
    assert (error["code"], error["details"]) == ("STREAM_NOT_FOUND", [{"of": "arq_s4"}])
    # Also where the process knows the channel again.
    await node.channels.resolve(HALL, ada.connection.client.actor, create=False)
    assert begin(ada, **append("arq_s4", 1, id="again"))
    assert (await answer(ada, "again"))["error"] == error


async def test_a_connection_remembers_some_streams_and_finds_the_others(connect: Connect) -> None:
    ada = await registered(connect, "ada-s5")
    begin(ada, type="event", id="s5", stream={}, ack=True)
    await answer(ada, "s5")
    for number in range(appends.REMEMBERED):
        appends._remember(ada.connection, f"arq_other{number}", HALL)
    assert len(ada.connection.client.streams) == appends.REMEMBERED
    assert not begin(ada, **append("arq_s5", 1))
    await ada.send(**append("arq_s5", 1))
    assert (await answer(ada, "arq_s5-1"))["stream"]["have"] == 1


async def test_the_token_of_a_first_append_is_no_credential(connect: Connect) -> None:
    ada, eve = await registered(connect, "ada-s7"), connect()
    begin(ada, type="event", id="s7", stream={}, ack=True)
    await answer(ada, "s7")
    await eve.connection.opened()
    await eve.send(**append("arq_s7", 1, token="of an adoption"))
    assert (await answer(eve, "arq_s7-1"))["error"]["code"] == "STREAM_LOST"
    assert eve.events()[:2] == ["welcome", "registered"]


async def test_a_server_that_stops_refuses_parts_and_loses_none(node: Node, connect: Connect) -> None:
    ada = await registered(connect, "ada-s6")
    begin(ada, type="event", id="s6", stream={}, ack=True)
    await answer(ada, "s6")
    node.traffic.draining = True
    begin(ada, **append("arq_s6", 1))
    assert (await answer(ada, "arq_s6-1"))["error"]["code"] == "RESTARTING"
    node.traffic.draining = False
    begin(ada, **append("arq_s6", 1, id="again"))
    assert (await answer(ada, "again"))["stream"]["have"] == 1


async def test_a_channel_that_was_forgotten_behind_the_opening_is_looked_up_and_not_the_stream(
    node: Node, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await registered(connect, "ada-s8")

    def not_committed(actor: Any, of: str) -> Any:
        raise stream_not_found(of)

    # As the database is until the opening's commit.
    monkeypatch.setattr(appends, "find_stream", not_committed)
    assert begin(ada, type="event", id="s8", stream={})
    node.channels.forget(HALL)
    assert not begin(ada, **append("arq_s8", 1))
    await ada.send(**append("arq_s8", 1))
    assert (await answer(ada, "arq_s8-1"))["stream"]["have"] == 1
