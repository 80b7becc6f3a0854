"""Rules for plain JSON values."""

from __future__ import annotations

import pytest

from bus.protocol.values import is_printable, moment_of, wrong_with

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b'{"a":[1]}', None),
        (b'{"id":"12345678901234567890"}', None),
        (b'{"a":[[1]]}', "deeper than 2"),
        (b'{"a":1,', "not JSON"),
        (b'{"a":1}{"b":1}', "not JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"a":1e999}', "1e999 is out of range"),
    ],
)
def test_what_a_program_made_is_looked_at(data: bytes, word: str | None) -> None:
    fault = wrong_with(data, 2)
    assert (fault is None) if word is None else (fault is not None and word in fault)


@pytest.mark.parametrize(
    ("text", "good"),
    [("x", True), ("é x", True), ("x" * 5, True), ("x" * 6, False), ("", False), ("a\n", False), (5, False)],
)
def test_ids_and_types_can_be_printed(text: object, good: bool) -> None:
    assert is_printable(text, 5) is good


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("2026-01-01T00:00:00Z", True),
        ("2026-01-01 00:00+02:00", True),
        ("2026-01-01T00:00:00", False),
        ("2026-13-01T00:00:00Z", False),
        ("tomorrow", False),
        ("5", False),
    ],
)
def test_a_moment_has_a_zone(text: str, known: bool) -> None:
    moment = moment_of(text)
    assert (moment is not None and moment.tzinfo is not None) is known
