"""The helpers of `bus.testing`, used as a project would."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction

from bus.node import running
from bus.services import abroadcast_to_channel, apublish, publish, send_private
from bus.testing import LiveBus, aassert_published, assert_published, live_bus


async def test_clients_hear_what_django_code_and_others_publish(live_bus: LiveBus, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    alice = await live_bus.connect("alice", room=address, screen_name="Alice")
    bob = await live_bus.connect("bob")
    assert alice.registered["room"] == fresh_room
    await bob.join(address)
    joined = await alice.expect("system", "client_joined")
    assert joined["payload"]["client_id"] == "bob"

    await abroadcast_to_channel(fresh_room, "talk", {"n": 1}, message="from a view")
    for client in (alice, bob):
        frame = await client.expect("event", message="from a view")
        assert (frame["payload"], frame["seq"]) == ({"n": 1}, 1)

    ack = await alice.publish(address, "hello", payload={"n": 2})
    assert ack["seq"] == 2
    assert (await bob.expect("event", seq=2))["from"] == "alice"
    await alice.expect_nothing("event")
    await apublish(address, message="unwanted")
    with pytest.raises(AssertionError, match="nothing was expected"):
        await alice.expect_nothing("event")


async def test_what_does_not_come_is_told_with_what_came(live_bus: LiveBus) -> None:
    client = await live_bus.connect("alice")
    await client.send("no JSON")
    await client.command("ping")  # behind the error
    with pytest.raises(AssertionError, match=r"no frame with type='event' within 0\.05 s; .*INVALID_JSON"):
        await client.expect("event", timeout=0.05)
    await client.expect("error")


async def test_commands_answer_or_are_refused(live_bus: LiveBus, fresh_room: str) -> None:
    client = await live_bus.connect("alice")
    assert (await client.command("ping", echo=1))["echo"] == 1
    assert (await client.refused("create_channel", room=fresh_room, channel="x"))["code"] == "FORBIDDEN"
    with pytest.raises(AssertionError, match=r"create_channel was refused.*FORBIDDEN"):
        await client.command("create_channel", room=fresh_room, channel="x")
    with pytest.raises(AssertionError, match=r"refused.*FORBIDDEN"):
        await client.publish("*", "to everybody")


async def test_a_user_and_a_token_are_who_they_are_on_a_server(live_bus: LiveBus) -> None:
    create = sync_to_async(get_user_model().objects.create_user)
    boss = await live_bus.connect("boss", user=await create("boss", password="x", is_superuser=True))
    assert boss.registered["role"] == "admin"
    worker = await live_bus.connect("worker", user=await create("worker", password="x"))
    assert worker.registered["role"] != "admin"
    with pytest.raises(AssertionError, match="UNAUTHENTICATED"):
        await live_bus.connect("stranger", token="wrong")


async def test_a_closed_client_is_gone_for_the_others(live_bus: LiveBus, fresh_room: str) -> None:
    alice = await live_bus.connect("alice", room=fresh_room)
    bob = await live_bus.connect("bob", room=fresh_room)
    await alice.expect("system", "client_joined")
    await bob.close()
    assert (await alice.expect("system", "client_left"))["payload"]["client_id"] == "bob"


def test_published_messages_are_asserted_within_a_transaction(db: None, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    with assert_published(address, message="hello", count=1) as messages:
        publish(address, {"n": 1}, message="hello")
        publish(address, {"n": 2}, message="else")
    assert [message["payload"] for message in messages] == [{"n": 1}]
    with assert_published(fresh_room, type="event", payload={"all": True}):
        publish(f"{fresh_room}:*", {"all": True})
    with assert_published(address, count=0), transaction.atomic():
        publish(address, message="rolled back")
        transaction.set_rollback(True)
    told = rf"expected a message at {fresh_room}:other; published was: {address}: .*oops"
    with pytest.raises(AssertionError, match=told), assert_published(f"{fresh_room}:other"):
        publish(address, message="oops")
    with pytest.raises(AssertionError, match="published was: nothing"), assert_published(address):
        pass


async def test_published_messages_are_asserted_in_async_tests(live_bus: LiveBus, fresh_room: str) -> None:
    client = await live_bus.connect("alice")
    async with aassert_published(f"{fresh_room}:talk", from_="alice") as messages:
        await client.publish(f"{fresh_room}:talk", "hello")
    assert messages[0]["message"] == "hello"
    async with aassert_published("pm:alice", type="private", message="psst"):
        await sync_to_async(send_private)("alice", message="psst")
    await client.expect("private", message="psst")


@pytest.mark.embedded
async def test_a_database_in_memory_is_refused_with_what_to_do(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only here: a connection that is opened meanwhile would stay on that database.
    with monkeypatch.context() as patched:
        patched.setitem(connection.settings_dict, "NAME", ":memory:")
        with pytest.raises(ImproperlyConfigured, match="Give the tests a file"):
            await live_bus().__aenter__()


async def test_a_connection_that_writes_to_many_channels_does_not_remember_its_rights_in_all_of_them(
    live_bus: LiveBus, fresh_room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bus.node.permissions.REMEMBERED", 5)
    client = await live_bus.connect("alice")
    for number in range(12):
        assert (await client.publish(f"{fresh_room}:c{number}", "hello"))["seq"] == 1
    node = running()
    assert node is not None
    assert 0 < len(node.clients.by_id["alice"].allowed) <= 5
