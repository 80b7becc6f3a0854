"""Tests of routing, as a table and for generated texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.protocol.errors import BusError
from bus.protocol.names import EVERYONE, INBOX_ROOM, WHOLE, Address, inbox, is_client_id, is_name, whole_room
from bus.protocol.routing import Route, channel_not_found, delivered_type, invalid_name, resolve

pytestmark = pytest.mark.pure

INITIAL = Address("lab", "bench")


@pytest.mark.parametrize(
    ("room", "channel", "target"),
    [
        # 1. A channel that holds r:c is the target, whatever the room says.
        (None, "science:explore", Address("science", "explore")),
        ("other", "science:explore", Address("science", "explore")),
        ("not a name", "science:explore", Address("science", "explore")),
        (None, "science:*", whole_room("science")),
        (None, "pm:bob", inbox("bob")),
        # 2. A channel lies in the room (its part before the colon), or in the initial room.
        ("science", "explore", Address("science", "explore")),
        ("science:general", "explore", Address("science", "explore")),
        (None, "explore", Address("lab", "explore")),
        ("", "explore", Address("lab", "explore")),
        ("science", "*", whole_room("science")),
        (None, "*", whole_room("lab")),
        ("pm", "bob@example.org", inbox("bob@example.org")),
        # 3. A room of the form r:c is both.
        ("science:explore", None, Address("science", "explore")),
        ("science:explore", "", Address("science", "explore")),
        ("science:*", None, whole_room("science")),
        ("pm:bob", None, inbox("bob")),
        # 4. A room alone is the whole room.
        ("science", None, whole_room("science")),
        ("science", "", whole_room("science")),
        # 5. Neither is the initial pair; empty strings count as absent.
        (None, None, INITIAL),
        ("", "", INITIAL),
        # Everybody.
        ("*", None, EVERYONE),
        ("*", "", EVERYONE),
        ("*", "*", EVERYONE),
        ("*:*", None, EVERYONE),
        (None, "*:*", EVERYONE),
    ],
)
def test_the_target_follows_the_rules_in_order(room: str | None, channel: str | None, target: Address) -> None:
    assert resolve(room, channel, INITIAL) == target


@pytest.mark.parametrize(
    ("room", "channel", "field"),
    [
        ("a b", None, "room"),
        ("a b", "c", "room"),
        ("x" * 65, None, "room"),
        ("x" * 200, "c", "room"),
        (":", None, "room"),
        (":c", None, "room"),
        ("a:", None, "room"),
        ("a:b:c", None, "room"),
        (":c", "d", "room"),
        ("*:explore", None, "room"),
        ("pm", None, "channel"),
        ("pm", "not/an/id", "channel"),
        ("*", "explore", "channel"),
        ("science", "a b", "channel"),
        ("science", "x" * 65, "channel"),
        (None, "a:b:c", "channel"),
        (None, "a:", "channel"),
        (None, "pm:*", "channel"),
        ("ü", None, "room"),
    ],
)
def test_what_is_no_name_is_refused_and_named(room: str | None, channel: str | None, field: str) -> None:
    with pytest.raises(BusError) as caught:
        resolve(room, channel, INITIAL)
    assert caught.value.code == "INVALID_NAME"
    assert [fault["field"] for fault in caught.value.details] == [field]


def test_a_refused_name_is_shown_shortened() -> None:
    problem = invalid_name("room", "x" * 500)
    assert problem.details[0]["value"] == "x" * 80


@pytest.mark.parametrize(
    ("sent", "address", "delivered"),
    [
        ("event", INITIAL, "event"),
        ("event", whole_room("lab"), "event"),
        ("event", inbox("bob"), "private"),
        ("task.assigned", inbox("bob"), "task.assigned"),
        ("private", inbox("bob"), "private"),
    ],
)
def test_an_event_to_an_inbox_is_a_private_message(sent: str, address: Address, delivered: str) -> None:
    assert delivered_type(sent, address) == delivered


@given(st.none() | st.text(max_size=70), st.none() | st.text(max_size=140))
def test_any_two_texts_are_an_address_or_one_clear_error(room: str | None, channel: str | None) -> None:
    try:
        address, problem = resolve(room, channel, INITIAL), None
    except BusError as raised:
        address, problem = INITIAL, raised
    assert problem is None or (problem.code == "INVALID_NAME" and problem.details)
    if address.is_inbox:
        assert is_client_id(address.channel)
    elif not address.is_everyone:
        assert is_name(address.room)
        assert address.channel == "*" or is_name(address.channel)


@given(st.text(st.sampled_from("abz09_-./"), min_size=1, max_size=64).filter(lambda name: name != "pm"), st.data())
def test_each_spelling_of_an_address_means_the_same(room: str, data: st.DataObject) -> None:
    channel = data.draw(st.text(st.sampled_from("abz09_-./"), min_size=1, max_size=64))
    target = Address(room, channel)
    assert resolve(room, channel, INITIAL) == target
    assert resolve(f"{room}:{channel}", None, INITIAL) == target
    assert resolve(None, f"{room}:{channel}", INITIAL) == target
    assert resolve(None, channel, Address(room, "general")) == target
    assert resolve(None, None, target) == target


def test_what_follows_the_colon_of_a_room_is_of_no_matter_beside_a_channel_however_long() -> None:
    assert resolve("lab:" + "x" * 10_000, "hall", EVERYONE) == Address("lab", "hall")


def test_a_missing_channel_is_named() -> None:
    problem = channel_not_found(Address("lab", "hall"))
    assert (problem.code, problem.message) == ("CHANNEL_NOT_FOUND", "There is no channel lab:hall.")
    assert problem.details == [{"address": "lab:hall"}]


def test_a_message_goes_into_one_log_or_into_the_inbox_of_each_known_target() -> None:
    explore = Address("science", "explore")
    assert Route(explore).addresses() == [explore]
    letter = Route(Address(INBOX_ROOM, WHOLE), ("ada", "bob"))
    assert letter.addresses() == [inbox("ada"), inbox("bob")]
    assert letter.addresses(unknown=["ada"]) == [inbox("bob")]
    assert Route(explore, ()).addresses() == []
