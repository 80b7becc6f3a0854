"""The reader's model finds every fault that it is there for, and nothing where all is well."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.growing import Watch, judge

pytestmark = pytest.mark.pure

OF = "arq_a1"


def opening(seq: int = 7) -> dict[str, Any]:
    return {"type": "event", "id": OF, "room": "r", "channel": "c", "seq": seq, "stream": {"mode": "text"}}


def part(n: int, delta: str) -> dict[str, Any]:
    return {"type": "append", "of": OF, "n": n, "delta": delta}


def snapshot(upto: int, text: str, attempt: int = 1) -> dict[str, Any]:
    return {
        "type": "append",
        "of": OF,
        "upto": upto,
        "text": text,
        "snapshot": True,
        "attempt": attempt,
        "mode": "text",
    }


def end(parts: int, message: str, state: str = "complete") -> dict[str, Any]:
    stream = {"mode": "text", "state": state, "parts": parts}
    return {"type": "stream_end", "of": OF, "of_seq": 7, "seq": 8, "stream": stream, "message": message}


def after(*frames: dict[str, Any]) -> list[str]:
    """What is wrong when a reader gets these frames of a stream that said `abc`."""
    watch = Watch("reader")
    for frame in frames:
        watch.take(frame)
    return judge([watch], {OF: "abc"})


GOOD: dict[str, list[dict[str, Any]]] = {
    "from the beginning": [opening(), part(1, "a"), part(2, "b"), part(3, "c"), end(3, "abc")],
    "from the middle": [snapshot(2, "ab"), part(3, "c"), end(3, "abc")],
    "a part comes again": [opening(), part(1, "a"), part(2, "b"), part(2, "b"), part(3, "c"), end(3, "abc")],
    "parts are skipped, and a snapshot comes": [opening(), part(1, "a"), snapshot(3, "abc"), end(3, "abc")],
    "nothing but the end": [opening(), end(3, "abc")],
    "adopted, and begun anew": [
        *[opening(), part(1, "x"), snapshot(0, "", 2)],
        *[part(1, "abc"), end(1, "abc")],
    ],
    "adopted, and begun anew while away": [opening(), part(1, "x"), snapshot(1, "ab", 2), part(2, "c"), end(2, "abc")],
    "adopted, and gone on with": [part(1, "ab"), snapshot(1, "ab", 2), part(2, "c"), end(2, "abc")],
}

BAD: dict[str, list[dict[str, Any]]] = {
    "a number is left out": [opening(), part(1, "a"), part(3, "c"), end(3, "abc")],
    "a snapshot goes back": [part(1, "a"), part(2, "b"), snapshot(1, "a"), part(2, "b"), part(3, "c"), end(3, "abc")],
    "a snapshot has another text": [part(1, "a"), snapshot(2, "xb"), part(3, "c"), end(3, "abc")],
    "the end has another text": [part(1, "x"), end(3, "abc")],
    "the end has more text": [part(1, "ab"), end(1, "abc")],
    "a part after the end": [part(1, "abc"), end(1, "abc"), part(2, "d")],
    "two ends": [part(1, "abc"), end(1, "abc"), end(1, "abc")],
    "two openings": [opening(), opening(), part(1, "abc"), end(1, "abc")],
    "the end of another opening": [opening(5), part(1, "abc"), end(1, "abc")],
    "an older attempt comes back": [snapshot(1, "ab", 2), snapshot(1, "ab", 1), part(2, "c"), end(2, "abc")],
    "no end": [opening(), part(1, "abc")],
    "another state": [opening(), part(1, "abc"), end(1, "abc", "aborted")],
    "less than was said": [opening(), part(1, "ab"), end(1, "ab")],
    "nothing at all": [],
}


@pytest.mark.parametrize("frames", GOOD.values(), ids=GOOD)
def test_nothing_is_found_where_all_is_well(frames: list[dict[str, Any]]) -> None:
    assert after(*frames) == []


@pytest.mark.parametrize("frames", BAD.values(), ids=BAD)
def test_every_fault_is_found(frames: list[dict[str, Any]]) -> None:
    assert after(*frames)


def test_parts_are_compared_as_objects() -> None:
    watch = Watch("reader")
    for number in (1, 2):
        watch.take({"type": "append", "of": OF, "n": number, "part": {"x": number}})
    stream = {"mode": "parts", "state": "complete", "parts": 2}
    watch.take({"type": "stream_end", "of": OF, "of_seq": 1, "stream": stream, "parts": [{"x": 1}, {"x": 2}]})
    assert judge([watch], {OF: [{"x": 1}, {"x": 2}]}) == []
    assert judge([watch], {OF: [{"x": 1}]})
