"""Frames that older versions kept are given out in a form that every reader takes."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.protocol.kept import legible, placeholder

pytestmark = pytest.mark.pure

HEAD = b'{"version":"1.0","id":"arq_1","type":"a\\"b","room":"lab","channel":"talk","from":"ada","timestamp":"T"'
PLACE = {"version": "1.0", "id": "arq_1", "type": 'a"b', "room": "lab", "channel": "talk", "from": "ada"}


def read(frame: bytes) -> dict[str, object]:
    """What all readers make of it."""
    found: dict[str, object] = json.loads(frame)
    assert found == msgspec.json.decode(frame)
    return found


def test_a_good_frame_stays_as_it_is() -> None:
    frame = (
        HEAD
        + b',"seq":4,"payload": {"n" : 1e5, "text":"12345678901234567890"},"client_timestamp":"2026-01-01T00:00:00Z"}'
    )
    assert legible(frame) is frame


@pytest.mark.parametrize("odd", ['"', "\\"])
@pytest.mark.parametrize("behind", ["", ',"eventType":"a\\"b"', ',"eventType":"x","source":"\\\\"', ',"source":"s"'])
def test_a_time_with_a_quote_in_it_becomes_a_time(odd: str, behind: str) -> None:
    payload = r'"payload":{"t":",\"client_timestamp\":\"no","client_timestamp":"2020-01-01T00:00:00"}'
    text = f"2026-01-01{odd}00:00:00+01:00"
    frame = HEAD + f',"seq":4,{payload},"client_timestamp":"{text}"{behind}}}'.encode()
    found = read(legible(frame))
    assert found["client_timestamp"] == "2026-01-01T00:00:00+01:00"
    good = frame.replace(text.encode(), b"2026-01-01T00:00:00+01:00")
    assert legible(frame) == good


def test_numbers_out_of_range_become_texts() -> None:
    many = "9" * 5000
    rest = f',"seq":4,"payload":{{"n":[1e999,2],"t":"1e999"}},"message":{many},"client_timestamp":"2026-01-01"00"}}'
    frame = HEAD + rest.encode()
    found = read(legible(frame))
    assert found["payload"] == {"n": ["1e999", 2], "t": "1e999"}
    assert found["message"] == many
    assert found["client_timestamp"] == "2026-01-01T00:00:00"


@pytest.mark.parametrize(
    "rest",
    [
        b',"seq":4,"payload":{]',
        b',"seq":4,"payload":{},"client_timestamp":"2026-01-01"x"}',
        b',"seq":4,"payload":{},"client_timestamp":"never"never"}',
        b',"seq":4',
        b',"seq":4,"payload":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_mended_says_so_and_where_it_is(rest: bytes) -> None:
    found = read(legible(HEAD + rest))
    assert found == {**PLACE, "timestamp": "T", "seq": 4, "payload": {}, "unreadable": True}


def test_of_some_frames_nothing_is_known() -> None:
    nothing = {"version": "1.0", "type": "event", "payload": {}, "unreadable": True}
    assert read(legible(b"")) == nothing
    assert read(placeholder(HEAD.replace(b"lab", b"\\q"))) == nothing
    assert "seq" not in read(placeholder(HEAD + b"]", 5))
    assert read(legible(b"", 5)) == {**nothing, "seq": 5}


@given(st.binary(max_size=40), st.integers(0, 200))
@example(b'"', 100)
def test_whatever_was_kept_comes_out_as_one_object_and_always_as_the_same(noise: bytes, place: int) -> None:
    frame = HEAD + b',"seq":4,"payload":{"n":1},"client_timestamp":"2026-01-01T00:00:00"}'
    text = (frame[:place] + noise + frame[place:]).decode(errors="replace").encode()
    given_out = legible(text)
    assert isinstance(read(given_out), dict)
    assert legible(given_out) is given_out
