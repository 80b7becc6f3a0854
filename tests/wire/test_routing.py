"""Tests of routing over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import Dialect, WireClient, WireError
from tests.harness.server import BusServer

Name = Callable[[str], str]


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ({"room": "{room}", "channel": "b"}, "{room}:b"),
        ({"channel": "{room}:b"}, "{room}:b"),
        ({"room": "elsewhere", "channel": "{room}:b"}, "{room}:b"),
        ({"room": "{room}:b"}, "{room}:b"),
        ({"room": "{room}:a", "channel": "b"}, "{room}:b"),
        ({"channel": "b"}, "{room}:b"),
        ({}, "{room}:a"),
        ({"room": "", "channel": ""}, "{room}:a"),
        ({"room": "{room}"}, "{room}:*"),
        ({"room": "{room}:*"}, "{room}:*"),
        ({"room": "{room}", "channel": "*"}, "{room}:*"),
    ],
)
async def test_a_message_goes_where_its_address_says(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect, target: dict[str, str], address: str
) -> None:
    writer = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    in_a = await wire(shared_server, room=fresh_room, channel="a")
    in_b = await wire(shared_server, room=fresh_room, channel="b")
    expected = address.format(room=fresh_room)
    place: dict[str, Any] = {key: text.format(room=fresh_room) for key, text in target.items()}
    ack = await writer.publish("here", ack=True, **place)
    assert f"{ack['room']}:{ack['channel']}" == expected
    assert ack["seq"] == 1
    for reader, channel in ((in_a, "a"), (in_b, "b")):
        if expected in (f"{fresh_room}:{channel}", f"{fresh_room}:*"):
            frame = await reader.expect("event")
            assert f"{frame['room']}:{frame['channel']}" == expected
            assert (frame["message"], frame["seq"], frame["from"]) == ("here", 1, writer.client_id)
        else:
            await reader.expect_nothing("event")
    await writer.expect_nothing("event")


async def test_a_whole_room_message_comes_once_whatever_number_of_channels_one_is_in(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    many = await wire(shared_server, dialect=dialect, room=fresh_room, channel="a")
    for channel in ("b", "c", "d"):
        await many.join(fresh_room, channel)
    left = await wire(shared_server, room=fresh_room, channel="a")
    await left.join("science", "general")
    await left.leave(fresh_room, "a")
    await writer.publish("to all", room=fresh_room, ack=True)
    frame = await many.expect("event")
    assert (frame["room"], frame["channel"], frame["seq"]) == (fresh_room, "*", 1)
    await many.expect_nothing("event")
    await left.expect_nothing("event")
    history = await writer.request("history", room=fresh_room)
    assert [message["id"] for message in history["messages"]] == [frame["id"]]
    assert history["messages"][0] == frame
    own = await writer.request("history", room=fresh_room, channel="*")
    assert [message["id"] for message in own["messages"]] == [frame["id"]]


async def test_a_room_log_is_heard_until_the_last_channel_of_the_room_is_left(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    writer = await wire(shared_server, room="science")
    reader = await wire(shared_server, room=fresh_room, channel="a")
    await reader.join(fresh_room, "b")
    await reader.leave(fresh_room, "a")
    await writer.publish("one", room=fresh_room, ack=True)
    assert (await reader.expect("event"))["message"] == "one"
    await reader.leave(fresh_room, "b")
    await writer.publish("two", room=fresh_room, ack=True)
    await reader.expect_nothing("event")


async def test_only_an_admin_writes_to_everybody(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token, room=fresh_room)
    anyone = await wire(shared_server, dialect=dialect, room=fresh_room)
    elsewhere = await wire(shared_server, room=f"{fresh_room}-2")
    with pytest.raises(WireError) as caught:
        await anyone.publish("spam", room="*", ack=True)
    assert caught.value.code == "FORBIDDEN"
    ack = await admin.publish("maintenance at noon", room="*", ack=True)
    assert (ack["room"], ack["channel"]) == ("*", "*")
    for reader in (anyone, elsewhere):
        frame = await reader.expect("event", message="maintenance at noon")
        assert (frame["room"], frame["channel"], frame["from"]) == ("*", "*", admin.client_id)
    await anyone.expect_nothing("event", message="maintenance at noon")


async def test_publishing_needs_no_membership_and_makes_what_is_missing(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, dialect=dialect, room="science")
    await writer.publish("into the new", room=fresh_room, channel="new", ack=True)
    rows = (await writer.request("list_channels", room=fresh_room))["channels"]
    assert [(row["channel"], row["participants"]) for row in rows] == [("new", 0)]


async def test_echo_includes_the_sender(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect, room=fresh_room)
    await client.publish("not to me", channel="general", ack=True)
    await client.publish("to me too", channel="general", echo=True, ack=True)
    assert (await client.expect("event"))["message"] == "to me too"
    await client.publish("to me and the room", room=fresh_room, echo=True, ack=True)
    assert (await client.expect("event"))["channel"] == "*"
    await client.expect_nothing("event")


async def test_a_repeated_id_is_not_published_twice(
    shared_server: BusServer, wire: Connect, fresh_room: str, dialect: Dialect
) -> None:
    writer = await wire(shared_server, dialect=dialect, room=fresh_room)
    other = await wire(shared_server, dialect=dialect, room=fresh_room)
    first = await writer.publish("once", channel="general", message_id="arq_same", ack=True)
    again = await writer.publish("once", channel="general", message_id="arq_same", ack=True)
    assert "duplicate" not in first
    assert (again["seq"], again["duplicate"]) == (first["seq"], True)
    # Another client's message of that id is another message.
    mine = await other.publish("mine", channel="general", message_id="arq_same", ack=True)
    assert mine["seq"] == first["seq"] + 1
    assert (await other.expect("event"))["id"] == "arq_same"
    await other.expect_nothing("event")
    # Were it acknowledged as a repetition, a message in another channel would be lost.
    with pytest.raises(WireError, match="VALIDATION_ERROR") as refused:
        await writer.publish("elsewhere", channel="other", message_id="arq_same", ack=True)
    assert refused.value.details == [{"field": "id"}]


async def test_a_v0_id_is_delivered_with_the_prefix(shared_server: BusServer, wire: Connect, fresh_room: str) -> None:
    writer = await wire(shared_server, room=fresh_room)
    reader = await wire(shared_server, room=fresh_room)
    ack = await writer.publish("x", channel="general", message_id="m-1", ack=True)
    assert ack["request_id"] == "m-1"
    assert (await reader.expect("event"))["id"] == "arq_m-1"


async def test_an_ephemeral_channel_has_no_seq_and_no_history(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token, room=fresh_room)
    await admin.request("create_channel", room=fresh_room, channel="cursor", ephemeral=True)
    reader = await wire(shared_server, dialect=dialect, room=fresh_room, channel="cursor")
    ack = await admin.publish("1,2", channel="cursor", message_id="arq_c1", ack=True)
    assert (ack["seq"], ack["channel"]) == (None, "cursor")
    frame = await reader.expect("event")
    assert (frame["message"], frame["id"]) == ("1,2", "arq_c1")
    assert "seq" not in frame
    assert frame["timestamp"]
    again = await admin.publish("1,2", channel="cursor", message_id="arq_c1", ack=True)
    assert again["duplicate"] is True
    await reader.expect_nothing("event")
    await admin.request("create_channel", room=fresh_room, channel="pen", ephemeral=True)
    with pytest.raises(WireError, match="VALIDATION_ERROR"):
        await admin.publish("1,2", channel="pen", message_id="arq_c1", ack=True)
    assert (await reader.request("history", room=fresh_room, channel="cursor"))["messages"] == []


# --- types ----------------------------------------------------------------------------------------------------------------


async def test_an_unknown_type_is_an_event_that_keeps_its_name(
    shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    writer, reader = await wire(shared_server, room=fresh_room), await wire(shared_server, room=fresh_room)
    await writer.publish("e4", type="chess.move", channel="general", ack=True)
    assert (await reader.expect("chess.move"))["message"] == "e4"
    await writer.send({"message": "no type", "channel": "general"})
    assert (await reader.expect("event"))["message"] == "no type"
    await writer.send({"type": "message", "content": "alias", "channel": "general"})
    assert (await reader.expect("event"))["message"] == "alias"


async def test_system_messages_are_for_admins(
    shared_server: BusServer, wire: Connect, fresh_room: str, admin_token: str, dialect: Dialect, name: Name
) -> None:
    admin = await wire(shared_server, dialect=dialect, token=admin_token, room=fresh_room)
    anyone = await wire(shared_server, dialect=dialect, client_id=name("anyone"), room=fresh_room)
    for target in (
        {"channel": "general"},
        {"channel": "pm", "to": [admin.client_id]},
        {"room": f"pm:{admin.client_id}"},
    ):
        with pytest.raises(WireError) as caught:
            await anyone.publish("obey", type="system", ack=True, **target)
        assert caught.value.code == "FORBIDDEN"
    await admin.publish("listen", type="system", channel="general", ack=True)
    frame = await anyone.expect("system", message="listen")
    assert frame["from"] == admin.client_id
    await admin.expect_nothing(predicate=lambda frame: frame.get("message") == "obey")


# --- private messages -----------------------------------------------------------------------------------------------------


def spellings(dialect: Dialect, target: str) -> list[dict[str, Any]]:
    """Every way to write to one client."""
    ways: list[dict[str, Any]] = [
        {"type": "private", "to": [target]},
        {"type": "private", "to": target},
        {"type": "event", "channel": "pm", "to": [target]},
        {"type": "event", "room": "science", "channel": "pm", "to": target},
        {"type": "event", "channel": f"pm:{target}"},
        {"type": "event", "room": f"pm:{target}"},
        {"type": "event", "room": "pm", "channel": target},
    ]
    if dialect == "v1":
        ways.append({"type": "private", "room": "science", "channel": "pm", "to": target})
    return ways


async def test_every_spelling_of_a_private_message_reaches_its_target_and_nobody_else(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name, dialect: Dialect
) -> None:
    alice = await wire(shared_server, dialect=dialect, client_id=name("alice"), room=fresh_room)
    bob = await wire(shared_server, dialect=dialect, client_id=name("bob"), room=fresh_room)
    eve = await wire(shared_server, dialect=dialect, client_id=name("eve"), room=fresh_room)
    for seq, way in enumerate(spellings(dialect, name("bob")), start=1):
        ack = await alice.publish(f"psst {seq}", ack=True, **way)
        assert (ack["room"], ack["channel"], ack["seq"]) == ("pm", name("bob"), seq)
        frame = await bob.expect("private")
        assert (frame["message"], frame["from"], frame["seq"]) == (f"psst {seq}", name("alice"), seq)
        assert (frame["room"], frame["channel"]) == ("pm", name("bob"))
    await eve.expect_nothing(predicate=lambda frame: "psst" in str(frame.get("message")))
    await alice.expect_nothing("private")


async def test_several_targets_get_one_copy_each_and_the_ack_says_where(
    shared_server: BusServer, wire: Connect, name: Name, dialect: Dialect
) -> None:
    alice = await wire(shared_server, dialect=dialect, client_id=name("alice"))
    bob = await wire(shared_server, dialect=dialect, client_id=name("bob"))
    carol = await wire(shared_server, dialect=dialect, client_id=name("carol"))
    await alice.publish("only bob", type="private", to=[name("bob")], ack=True)
    both = [name("bob"), name("carol"), name("bob")]
    ack = await alice.publish("both", type="private", to=both, message_id="arq_both", ack=True)
    assert (ack["room"], ack["channel"], ack["seq"]) == ("pm", "*", None)
    assert ack["targets"] == {name("bob"): 2, name("carol"): 1}
    await bob.expect("private", message="only bob")
    for reader in (bob, carol):
        assert (await reader.expect("private"))["id"] == "arq_both"
    again = await alice.publish("both", type="private", to=both, message_id="arq_both", ack=True)
    assert (again["duplicate"], again["targets"]) == (True, ack["targets"])
    await bob.expect_nothing("private")


async def test_unknown_targets_are_named_and_the_rest_is_served(
    shared_server: BusServer, wire: Connect, name: Name, dialect: Dialect
) -> None:
    alice = await wire(shared_server, dialect=dialect, client_id=name("alice"))
    bob = await wire(shared_server, dialect=dialect, client_id=name("bob"))
    targets = [name("nobody"), name("bob"), name("noone")]
    sent = await alice.publish("hello?", type="private", to=targets, message_id="arq_u1")
    problem = await alice.expect("error")
    assert (problem["error"]["code"], problem["request_id"]) == ("TARGET_NOT_FOUND", sent["id"])
    assert [row["client_id"] for row in problem["error"]["details"]] == [name("nobody"), name("noone")]
    assert f"{name('nobody')}, {name('noone')}. The other targets got the message." in problem["error"]["message"]
    assert (await bob.expect("private"))["message"] == "hello?"
    # Sent again once one more is there, only that one gets it.
    late = await wire(shared_server, client_id=name("noone"))
    await alice.publish("hello?", type="private", to=targets, message_id="arq_u1")
    await late.expect("private", message="hello?")
    await bob.expect_nothing("private", after=[alice])


async def test_a_private_message_without_a_target_is_an_error(
    shared_server: BusServer, wire: Connect, dialect: Dialect
) -> None:
    client = await wire(shared_server, dialect=dialect)
    with pytest.raises(WireError) as caught:
        await client.publish("to whom?", type="private", ack=True)
    assert (caught.value.code, caught.value.details[0]["field"]) == ("VALIDATION_ERROR", "to")


async def test_a_message_meant_for_somebody_is_never_published_to_all(
    shared_server: BusServer, wire: Connect, fresh_room: str, name: Name
) -> None:
    alice = await wire(shared_server, client_id=name("alice"), room=fresh_room)
    eve = await wire(shared_server, client_id=name("eve"), room=fresh_room)
    with pytest.raises(WireError) as caught:
        await alice.publish("for bob", type="event", channel="general", to=[name("bob")], ack=True)
    assert caught.value.details[0]["field"] == "to"
    # Nor is one on channel pm that names nobody.
    with pytest.raises(WireError) as caught:
        await alice.publish("for bob", type="event", room=fresh_room, channel="pm", ack=True)
    assert caught.value.details[0]["field"] == "to"
    await eve.expect_nothing("event")


async def test_one_may_write_to_oneself(shared_server: BusServer, wire: Connect, name: Name) -> None:
    client = await wire(shared_server, client_id=name("me"))
    await client.publish("note", type="private", to=[name("me")], ack=True)
    assert (await client.expect("private"))["message"] == "note"


async def test_a_private_message_waits_for_a_client_that_is_away(
    shared_server: BusServer, wire: Connect, name: Name, dialect: Dialect
) -> None:
    bob = await wire(shared_server, dialect=dialect, client_id=name("bob"))
    alice = await wire(shared_server, dialect=dialect, client_id=name("alice"))
    await bob.close()
    await alice.publish("for later", type="private", to=[name("bob")], ack=True)
    back: WireClient = await bob.reconnect()
    assert (await back.expect("private"))["message"] == "for later"
    await back.close()


async def test_an_inbox_is_read_by_its_two_sides_only(
    shared_server: BusServer, wire: Connect, name: Name, dialect: Dialect
) -> None:
    alice = await wire(shared_server, dialect=dialect, client_id=name("alice"))
    carol = await wire(shared_server, dialect=dialect, client_id=name("carol"))
    bob = await wire(shared_server, dialect=dialect, client_id=name("bob"))
    eve = await wire(shared_server, dialect=dialect, client_id=name("eve"))
    await alice.publish("from alice", type="private", to=name("bob"), ack=True)
    await carol.publish("from carol", type="private", to=name("bob"), ack=True)

    async def texts(reader: WireClient, **more: Any) -> list[str]:
        result = await reader.request("history", room="pm", channel=name("bob"), **more)
        return [message["message"] for message in result["messages"]]

    assert await texts(bob) == ["from alice", "from carol"]
    assert await texts(alice) == ["from alice"]
    assert await texts(alice, sender=name("alice")) == ["from alice"]
    assert await texts(alice, sender=name("carol")) == []
    assert await texts(carol) == ["from carol"]
    assert await texts(eve) == []
    assert await texts(eve, sender=name("alice")) == []
    with pytest.raises(WireError) as caught:
        await eve.join("pm", name("bob"))
    assert caught.value.number in (400, 403)


async def test_a_newcomer_under_an_old_id_reads_nothing_of_its_predecessor(
    shared_server: BusServer, wire: Connect, name: Name
) -> None:
    alice = await wire(shared_server, client_id=name("alice"))
    bob = await wire(shared_server, client_id=name("bob"))
    await alice.publish("for the first bob", type="private", to=name("bob"), ack=True)
    await bob.publish("from the first bob", type="private", to=name("alice"), ack=True)
    await bob.close()
    second = await wire(shared_server, client_id=name("bob"), since=0)
    await second.expect_nothing("private")
    assert (await second.request("history", room="pm", channel=name("bob")))["messages"] == []
    assert (await second.request("history", room="pm", channel=name("alice")))["messages"] == []
