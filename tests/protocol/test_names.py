"""Names and addresses: what is one, and how it is spelt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.protocol.names import (
    DEFAULT_ADDRESS,
    EVERYONE,
    Address,
    inbox,
    is_client_id,
    is_name,
    parse_address,
    whole_room,
)

pytestmark = pytest.mark.pure

NAMES = st.text(st.sampled_from("abcXYZ019_-./"), min_size=1, max_size=64)
CLIENT_IDS = st.text(st.sampled_from("abcXYZ019_-.@"), min_size=1, max_size=64)


@pytest.mark.parametrize("text", ["a", "science", "A-b_c.d/e", "0", "x" * 64])
def test_a_name_is_1_to_64_letters_digits_and_a_few_signs(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a:b", "*", "ä", "a\n", "a@b", "²", None, 5, ["a"]])
def test_anything_else_is_no_name(text: object) -> None:
    assert not is_name(text)


@pytest.mark.parametrize("text", ["a", "alice@example.org", "my-client-1", "A_b.c", "x" * 64])
def test_a_client_id_may_hold_an_at_sign(text: str) -> None:
    assert is_client_id(text)


@pytest.mark.parametrize("text", ["", "x" * 65, "a/b", "a:b", "a b", "*", "é", "a\n", None, 5])
def test_anything_else_is_no_client_id(text: object) -> None:
    assert not is_client_id(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("science:explore", Address("science", "explore")),
        ("science:*", whole_room("science")),
        ("*:*", EVERYONE),
        ("pm:alice@example.org", inbox("alice@example.org")),
        ("a/b:c.d", Address("a/b", "c.d")),
    ],
)
def test_an_address_is_read_and_written_in_the_same_way(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["science", "", ":", "a:", ":b", "a:b:c", "*:explore", "pm:", "pm:a/b", "pm:*", "a b:c", "a:b c", "x" * 65 + ":a"],
)
def test_what_is_not_an_address_is_none(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("address", "channel", "room", "pm", "everyone"),
    [
        (DEFAULT_ADDRESS, True, False, False, False),
        (whole_room("science"), False, True, False, False),
        (inbox("alice"), False, False, True, False),
        (EVERYONE, False, False, False, True),
    ],
)
def test_an_address_is_of_one_kind(address: Address, channel: bool, room: bool, pm: bool, everyone: bool) -> None:
    kinds = (address.is_channel, address.is_whole_room, address.is_inbox, address.is_everyone)
    assert kinds == (channel, room, pm, everyone)


@given(NAMES.filter(lambda name: name != "pm"), NAMES)
def test_every_pair_of_names_is_an_address(room: str, channel: str) -> None:
    assert parse_address(f"{room}:{channel}") == Address(room, channel)


@given(CLIENT_IDS)
def test_every_client_id_has_an_inbox(client_id: str) -> None:
    assert parse_address(str(inbox(client_id))) == inbox(client_id)


@given(st.text(max_size=200))
def test_whatever_is_read_as_an_address_is_spelt_like_it(text: str) -> None:
    address = parse_address(text)
    assert address is None or str(address) == text
