"""Frames that let a streamed message grow: what is read from them, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.protocol.dialects import read_closely
from bus.protocol.errors import ErrorCode
from bus.protocol.faults import FrameError
from bus.protocol.inbound import KIND_APPEND, KIND_PRIVATE, KIND_PUBLISH, KIND_TELEMETRY, Append, Inbound, size_of
from bus.protocol.usual import read, usual
from tests.protocol.test_dialects import JSON
from tests.protocol.test_usual import same

pytestmark = pytest.mark.pure

OF = "arq_a1"


def append(**keys: Any) -> dict[str, Any]:
    """An append of part 1, with other keys in its place."""
    return {"type": "append", "of": OF, "n": 1, "delta": "Hel"} | keys


def encoded(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame).encode()


def said(frame: dict[str, Any]) -> Append:
    """What the append says; both readers agree."""
    inbound = read(encoded(frame))
    assert inbound.kind == KIND_APPEND
    assert inbound.append is not None
    assert usual(encoded(frame)) == inbound == read_closely(encoded(frame))
    return inbound.append


def faults(frame: dict[str, Any]) -> dict[str, str]:
    """The faults of a refused frame, by field."""
    assert usual(encoded(frame)) is None
    with pytest.raises(FrameError) as caught:
        read(encoded(frame))
    assert caught.value.code == ErrorCode.VALIDATION_ERROR
    assert caught.value.request_id == frame.get("id")
    return {fault["field"]: fault["message"] for fault in caught.value.details}


def test_a_part_keeps_the_bytes_of_its_owner() -> None:
    data = b'{"type":"append","of":"arq_a1","n":3,"delta":"a\\u00e4\\n\\ud83d\\ude00 \xc3\xa4"}'
    assert usual(data) == read_closely(data)
    found = read(data).append
    assert found == Append(OF, 3, "text", b"a\\u00e4\\n\\ud83d\\ude00 \xc3\xa4")
    data = b'{"type":"append","of":"arq_a1","n":3,"part":{ "x" : 1.0,"x":1e2 }}'
    assert read(data).append == Append(OF, 3, "parts", b'{ "x" : 1.0,"x":1e2 }')


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (append(), Append(OF, 1, "text", b"Hel")),
        (append(delta=""), Append(OF, 1, "text", b"")),
        (append(delta=None, part={"x": 1}), Append(OF, 1, "parts", b'{"x": 1}')),
        (append(part=None, end=None, took=None, token=None, payload=None, id=None), Append(OF, 1, "text", b"Hel")),
        (append(own={"key": 1}, room="r", channel=5, echo=7), Append(OF, 1, "text", b"Hel")),
        (append(n=2**53 - 1, end="complete"), Append(OF, 2**53 - 1, "text", b"Hel", "complete")),
        (append(delta=None, n=0, end="aborted"), Append(OF, 0, "", b"", "aborted")),
        (append(end="stopped", payload={"u": 1}), Append(OF, 1, "text", b"Hel", "stopped", b'{"u": 1}')),
        (append(took=["arq_s1", "arq_s2"]), Append(OF, 1, "text", b"Hel", took=("arq_s1", "arq_s2"))),
        (append(took=[]), Append(OF, 1, "text", b"Hel")),
        (append(token="t" * 256), Append(OF, 1, "text", b"Hel", token="t" * 256)),
        (append(of="any id"), Append("any id", 1, "text", b"Hel")),
        (append(version="1.0", id="arq_x"), Append(OF, 1, "text", b"Hel")),
        (append(version=None), Append(OF, 1, "text", b"Hel")),
    ],
)
def test_what_an_append_says(frame: dict[str, Any], wanted: Append) -> None:
    assert said(frame) == wanted


def test_an_append_may_ask_for_an_ack() -> None:
    inbound = read(encoded(append(id="p1", ack=True)))
    assert (inbound.id, inbound.ack, inbound.echo, inbound.to) == ("p1", True, False, [])
    assert size_of(inbound) == len("Hel")
    assert size_of(read(encoded(append(end="complete", payload={})))) == len("Hel{}")


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        (append(of=""), {"of"}),
        (append(of="x" * 161), {"of"}),
        (append(of="a\x00b"), {"of"}),
        (append(n=None), {"n"}),
        ({"type": "append", "of": OF, "delta": ""}, {"n"}),
        (append(n=0), {"n"}),
        (append(n=0, end="complete"), {"n"}),
        (append(n=-1), {"n"}),
        (append(n=-1, delta=None, end="complete"), {"n"}),
        (append(n=1.5), {"n"}),
        (append(n=True), {"n"}),
        (append(n="1"), {"n"}),
        (append(n=2**53), {"n"}),
        (append(n=10**40), {"n"}),
        (append(delta=5), {"delta"}),
        (append(delta=["x"]), {"delta"}),
        (append(delta=None), {"delta"}),
        (append(delta=None, part=[]), {"part"}),
        (append(delta=None, part="x"), {"part"}),
        (append(part={}), {"part"}),
        (append(end="open"), {"end"}),
        (append(end=5), {"end"}),
        (append(end="complete", payload=[]), {"payload"}),
        (append(payload={}), {"payload"}),
        (append(took="arq_s1"), {"took"}),
        (append(took=[5]), {"took"}),
        (append(took=[""]), {"took"}),
        (append(took=["arq_s1"] * 101), {"took"}),
        (append(token=5), {"token"}),
        (append(token=""), {"token"}),
        (append(token="x" * 257), {"token"}),
        (append(ack=1), {"ack"}),
        (append(own=10**40), {"own"}),
        (append(version="1.0", id="1"), {"id"}),
        ({"type": "append", "of": "", "n": 0, "delta": 1, "took": 1, "token": 1, "end": 1, "payload": 1, "id": "m1"},
         {"of", "delta", "took", "token", "end", "payload"}),
    ],
)  # fmt: skip
def test_each_fault_is_named(frame: dict[str, Any], fields: set[str]) -> None:
    assert faults(frame).keys() == fields


@pytest.mark.parametrize("key", ["id", "version"])
def test_the_rules_of_all_frames_hold(key: str) -> None:
    for value in (5, "", "x" * 129, "a\nb", "2.0"):
        data = encoded(append(**{key: value}))
        assert same(data) is (key == "id" and value == "2.0")


@pytest.mark.parametrize("delta", [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\x01"', b'"\\x"', b'"\xff"', b'"'])
def test_a_delta_is_a_text_that_every_reader_can_read(delta: bytes) -> None:
    data = b'{"type":"append","of":"arq_a1","n":1,"delta":' + delta + b"}"
    assert usual(data) is None
    with pytest.raises(FrameError, match="INVALID_JSON"):
        read(data)


@pytest.mark.parametrize("of", [None, 5, ["arq_a1"], {"x": 1}])
def test_without_a_text_it_is_an_event_of_that_type_as_before(of: Any) -> None:
    inbound = read(encoded({"type": "append", "of": of, "message": "x"}))
    assert (inbound.kind, inbound.type, inbound.append) == (KIND_PUBLISH, "append", None)
    assert json.loads(inbound.metadata or b"") == {"of": of}
    assert usual(encoded({"type": "append", "message": "x"})) == Inbound(
        KIND_PUBLISH, "append", payload=b'{"message":"x"}', message=b'"x"'
    )


def test_with_a_version_it_needs_the_key_too() -> None:
    with pytest.raises(FrameError, match="UNKNOWN_TYPE"):
        read(encoded({"type": "append", "version": "1.0", "id": "arq_1"}))


@given(
    st.fixed_dictionaries(
        {"type": st.just("append"), "of": st.sampled_from([OF, "", "x" * 161]) | JSON},
        optional={
            "n": st.integers(-1, 3) | st.integers() | JSON,
            "delta": st.text(max_size=5) | JSON,
            "part": st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON,
            "end": st.sampled_from(["complete", "aborted", "stopped", "open", None]) | JSON,
            "payload": st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON,
            "took": st.lists(st.sampled_from(["arq_s1", "", "\x00"]) | JSON, max_size=3) | JSON,
            "token": st.text(max_size=3) | JSON,
            "id": st.sampled_from(["arq_1", "1", ""]) | JSON,
            "ack": st.booleans() | JSON,
            "version": st.sampled_from(["1.0", "2.0", None]) | JSON,
            "own": JSON,
        },
    )
)
@example({"type": "append", "of": OF, "n": 1, "delta": "x"})
def test_both_readers_make_the_same_of_an_append(frame: dict[str, Any]) -> None:
    data = encoded(frame)
    quick = same(data)
    same(json.dumps(frame, ensure_ascii=False, indent=1).encode("utf-8", "replace"))
    try:
        inbound = read_closely(data)
    except FrameError:
        return
    # An append that is right is always read in one step, except where a key is null or has another of its harmless forms.
    assert quick or inbound.kind != KIND_APPEND or None in frame.values() or isinstance(frame.get("id"), int)


@given(
    st.lists(
        st.sampled_from(
            [
                b'"type":"append"',
                b'"of":"arq_a1"',
                b'"of":5',
                b'"n":1',
                b'"n":2',
                b'"delta":"x"',
                b'"delta":1',
                b'"end":"x"',
            ]
        ),
        max_size=8,
    )
)
def test_a_key_that_comes_twice_counts_the_same_for_both(members: list[bytes]) -> None:
    same(b"{" + b",".join(members) + b"}")


# --- openings and steers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "mode"),
    [({}, "text"), ({"mode": None}, "text"), ({"mode": "text"}, "text"), ({"mode": "parts"}, "parts")],
)
def test_a_message_opens_a_stream_with_an_object(stream: Any, mode: str) -> None:
    inbound = read(encoded({"type": "event", "stream": stream, "own": 1}))
    assert (inbound.kind, inbound.stream, inbound.metadata) == (KIND_PUBLISH, mode, b'{"own":1}')
    inbound = read(encoded({"type": "private", "to": "bob", "stream": stream, "message": "x"}))
    assert (inbound.kind, inbound.stream, inbound.metadata) == (KIND_PRIVATE, mode, None)


@pytest.mark.parametrize("stream", ["s1", 5, True, None, ["x"]])
def test_any_other_value_is_a_key_of_the_senders_own(stream: Any) -> None:
    inbound = read(encoded({"type": "event", "stream": stream}))
    assert inbound.stream is None
    assert json.loads(inbound.metadata or b"") == {"stream": stream}


def test_telemetry_opens_no_stream() -> None:
    inbound = read(encoded({"eventType": "x", "payload": {}, "stream": {"mode": "text"}, "steer": "arq_a"}))
    assert (inbound.kind, inbound.stream, inbound.steer) == (KIND_TELEMETRY, None, None)
    assert json.loads(inbound.metadata or b"") == {"stream": {"mode": "text"}, "steer": "arq_a"}


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        ({"stream": {"mode": "video"}}, {"stream"}),
        ({"stream": {"mode": 5}}, {"stream"}),
        ({"stream": {"mode": "text", "speed": 1}}, {"stream"}),
        ({"type": "private", "to": ["a", "b"], "stream": {}}, {"stream"}),
        ({"stream": {}, "steer": "arq_a1"}, {"steer"}),
        ({"steer": "arq_" + "x" * 157}, {"steer"}),
        ({"steer": "arq_\x00"}, {"steer"}),
        ({"type": "stream_end", "message": "forged"}, {"type"}),
    ],
)
def test_faults_of_openings_and_steers(frame: dict[str, Any], fields: set[str]) -> None:
    assert faults(frame).keys() == fields


def test_a_message_steers_with_the_id_of_a_message() -> None:
    inbound = read(encoded({"type": "event", "steer": "arq_a1", "own": 1, "message": "not so long"}))
    assert (inbound.steer, inbound.metadata) == ("arq_a1", b'{"own":1}')


@pytest.mark.parametrize("steer", ["left", 5, None, {"of": "arq_a1"}])
def test_any_other_steer_is_a_key_of_the_senders_own(steer: Any) -> None:
    inbound = read(encoded({"type": "event", "steer": steer}))
    assert inbound.steer is None
    assert json.loads(inbound.metadata or b"") == {"steer": steer}
