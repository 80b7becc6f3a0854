"""A usual frame read in one step is what the whole grammar makes of it; any other is left to that grammar."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.protocol.dialects import decode_object, normalise
from bus.protocol.faults import FrameError
from bus.protocol.inbound import Inbound
from bus.protocol.usual import read, usual
from tests.protocol.test_dialects import JSON, KEYS, LIKELY

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["pm", "pm:bob", "a:b", "*", "arq_1", "event", "message", "system", "ack", "private"]
)
NULL: st.SearchStrategy[Any] = st.none()
#: Frames of the keys that this module knows, mostly with values of the right kind.
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "type": TEXTS | NULL | JSON,
        "id": TEXTS | NULL | JSON,
        "room": TEXTS | NULL | JSON,
        "channel": TEXTS | NULL | JSON,
        "payload": st.dictionaries(
            TEXTS | st.sampled_from(["message", "content", "to", "target"]), JSON | TEXTS, max_size=3
        )
        | JSON,
        "message": TEXTS | JSON,
        "ack": st.booleans() | NULL | JSON,
        "echo": st.booleans() | NULL,
        "version": st.sampled_from(["1.0", "2.0", None]) | JSON,
        "timestamp": st.sampled_from(["2026-01-01T00:00:00Z", "", "never"]) | JSON,
        "metadata": st.dictionaries(TEXTS, JSON, max_size=2) | JSON,
        "from": JSON,
    },
)


def normal(data: bytes) -> Inbound | None:
    """What the whole grammar says; None for what it refuses."""
    try:
        return normalise(decode_object(data))
    except FrameError:
        return None


def same(data: bytes) -> bool:
    """Whether the frame was taken in one step, and then with the same result."""
    quick = usual(data)
    assert quick is None or quick == normal(data)
    return quick is not None


@given(NEARLY)
@example({"type": "event", "version": "1.0", "id": "arq_1", "payload": {"message": "hi"}})
@example({"version": "1.0", "id": "arq_1"})
@example({"type": "message", "message": "hi", "payload": {"content": "no", "message": 5}})
@example({"payload": {"message": 5, "content": "no"}})
@example({"metadata": [1]})
def test_what_is_taken_in_one_step_is_what_the_grammar_makes_of_it(frame: dict[str, Any]) -> None:
    same(json.dumps(frame).encode())
    same(json.dumps(frame, ensure_ascii=False, indent=1).encode("utf-8", "replace"))


@given(st.dictionaries(KEYS | st.text(max_size=8), LIKELY | JSON, max_size=10))
def test_frames_with_other_keys_are_left_to_the_grammar(frame: dict[str, Any]) -> None:
    same(json.dumps(frame).encode())


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_no_trouble(data: bytes) -> None:
    same(data)
    same(b'{"type":"event","message":"' + data + b'"}')


@given(
    st.lists(
        st.sampled_from(
            [b'"type":"event"', b'"type":5', b'"id":"a"', b'"id":"b"', b'"payload":{}', b'"payload":{"x":1}']
        ),
        max_size=5,
    )
)
def test_a_key_that_comes_twice_counts_as_it_does_in_the_grammar(members: list[bytes]) -> None:
    same(b"{" + b",".join(members) + b"}")


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"message": "hi"},
        {"type": "event", "id": "m1", "room": "a", "channel": "b", "ack": True, "payload": {"d": 1}},
        {"type": "message", "message": "hi", "echo": True},
        {"type": "trade", "payload": {"message": "inside"}},
        {"type": "event", "version": "1.0", "id": "arq_1", "from": "me", "timestamp": "2026-01-01T00:00:00Z",
         "room": "a", "channel": "b", "payload": {"message": "v1"}, "metadata": {"trace": "x"}},
        {"type": "event", "channel": "pm:bob", "message": "psst"},
    ],
)  # fmt: skip
def test_usual_frames_take_the_short_way(frame: dict[str, Any]) -> None:
    assert same(json.dumps(frame).encode())


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "private", "to": ["bob"]},
        {"channel": "pm", "message": "to whom?"},
        {"type": "ack"},
        {"type": "x" * 65},
        {"type": "a\nb"},
        {"id": "x" * 129},
        {"id": ""},
        {"id": "a\nb"},
        {"id": 5},
        {"version": "2.0"},
        {"version": "1.0", "type": "trade", "id": "arq_1"},
        {"version": "1.0", "type": "event", "id": "1"},
        {"version": None, "type": "event"},
        {"payload": []},
        {"payload": {"to": "bob"}},
        {"payload": {"targets": ["bob"]}},
        {"metadata": 5},
        {"ack": None},
        {"own": "key"},
    ],
)
def test_anything_else_takes_the_long_one(frame: dict[str, Any]) -> None:
    assert not same(json.dumps(frame).encode())


def test_both_ways_are_one_for_who_reads() -> None:
    assert read(b'{"type":"event","message":"hi"}').message == b'"hi"'
    assert read(b'{"command":"ping","id":1}').command == "ping"
    with pytest.raises(FrameError, match="VALIDATION_ERROR"):
        read(b'{"payload":5}')
