"""Patterns of grants: what they match, which texts are none, and that no pattern is slow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.auth.permissions import Actor, Rule, matches
from bus.protocol.names import Address
from bus.services.grants import is_pattern

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("*", ["a:b", "a:*", "*:*", "pm:ada"], []),
        ("**", ["a:b", "*:*"], []),
        ("*:*", ["a:b", "a:*", "*:*"], []),
        ("science", ["science:explore", "science:*"], ["science-2:explore", "Science:explore", "a:science"]),
        ("science:*", ["science:explore", "science:*"], ["sciences:explore", "SCIENCE:explore"]),
        ("science:explore", ["science:explore"], ["science:explore2", "science:*", "science:Explore", "*:*"]),
        ("*:news", ["a:news", "b/c:news"], ["a:news-2", "a:old-news", "a:*"]),
        ("team-*:*", ["team-1:a", "team-:a", "team-*:a"], ["team:a", "steam-1:a"]),
        ("a*a:b", ["aa:b", "aba:b"], ["a:b"]),
        ("a.c:*", ["a.c:x"], ["abc:x"]),
        ("a*b*c:d*e", ["abc:de", "a-b-b-c:d--e"], ["acb:de", "abc:d"]),
    ],
)
def test_a_star_stands_for_any_text_and_everything_else_for_itself(
    pattern: str, inside: list[str], outside: list[str]
) -> None:
    assert is_pattern(pattern)
    assert [address for address in inside if not matches(pattern, address)] == []
    assert [address for address in outside if matches(pattern, address)] == []


@given(st.text("ab-*", min_size=1, max_size=8), st.text("ab-*", min_size=1, max_size=8), st.text("ab-:*", max_size=16))
def test_a_pattern_matches_what_its_expression_does(room: str, channel: str, address: str) -> None:
    pattern = f"{room}:{channel}"
    expression = "".join(".*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", pattern))
    assert matches(pattern, address) is (re.fullmatch(expression, address) is not None)


@pytest.mark.timeout(20)
def test_a_pattern_of_many_stars_is_as_quick_as_one_of_few() -> None:
    pattern = "*a" * 32 + ":" + "*a" * 30 + "b"
    assert is_pattern(pattern)
    # An expression with as many of them tries more ways than there are seconds in a year.
    assert not matches(pattern, "a" * 64 + ":" + "a" * 64)
    assert matches(pattern, "a" * 64 + ":" + "a" * 63 + "b")


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", ":b", "a:b:c", "science:* ", " science:*", "science: *", "sciénce:*", "ѕcience:*", "science：*",
     "science:\u200b*", "a\x00:b", "a?:b", "a b", "x" * 65, "pm:a b", "[a-z]*:x", "a\n"],
)  # fmt: skip
def test_what_could_never_match_is_refused_so_that_no_ban_is_an_illusion(text: str) -> None:
    """Spaces, letters that look like others, expressions: no name of a room or channel holds them."""
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("principal", "name"),
    [
        ("user:7", "user-7"),
        ("jwt:ada", "jwt-ada"),
        ("token:3", "token-3"),
        ("", ""),
        # What is no name could match more than itself, or another's.
        ("jwt:*", ""),
        ("jwt:a:b", ""),
        ("jwt:ada@example.org", ""),
        ("jwt:{me}", ""),
    ],
)
def test_me_in_a_pattern_is_whoever_asks_and_nobody_else(principal: str, name: str) -> None:
    actor = Actor(principal=principal)
    assert actor.own_name == name
    rule = Rule("identified", "", "join", "users:{me}", allow=True)
    for channel in ("user-7", "user-77", "jwt-ada", "token-3", "", "*", "x"):
        covered = rule.covers("join", Address("users", channel), actor)
        assert covered is (channel == name != ""), channel
    assert not rule.covers("publish", Address("users", name or "x"), actor)


def test_a_pattern_may_hold_me_in_the_place_of_names() -> None:
    for text in ("users:{me}", "{me}:*", "team-{me}:a*", "{me}"):
        assert is_pattern(text)
    # user-7* would be user-70's as well.
    for text in ("users:{you}", "users:{me", "a:{me}:b", "users:{me}*", "users:*{me}", "{me}*:news"):
        assert not is_pattern(text)


def test_the_inbox_of_a_client_can_be_named() -> None:
    assert is_pattern("pm:ada@example.org")
    assert matches("pm:*@example.org", "pm:ada@example.org")
