"""Frames as texts, as odd as JSON lets them be, and what every reader makes of a text: the ground of `test_readers_agree`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import msgspec
from hypothesis import strategies as st

_BLANKS = st.sampled_from(["", "", "", " ", "\n", "\r\n\t "])
#: Characters that somebody somewhere takes for more than a letter.
_ODD = '"\\/\u0000\u0001\n\r\t\u007f\u0085\u00a0\u061c\u200b\u200f\u2028\u2029\u202e\u2066\ufeff\ufffe\uffff😀é='
_CHARACTERS = st.characters(exclude_categories=["Cs"]) | st.sampled_from(_ODD)


def _spelt(character: str, how: int) -> str:
    """A character inside a JSON text, in one of the ways that JSON allows."""
    units = character.encode("utf-16-be")
    escaped = "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    if how == 0 or ord(character) < 0x20 or character in '"\\':
        return escaped.upper().replace("\\U", "\\u") if how == 2 else escaped
    return character


_PIECES = st.tuples(_CHARACTERS, st.integers(0, 3)).map(lambda pair: _spelt(*pair))
#: Half of a character now and then: no JSON for everybody.
_HALVES = st.sampled_from(["\\ud83d", "\\ude00", "\\ude00\\ud83d"])
TEXTS = st.lists(_PIECES, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
_WRONG_TEXTS = st.tuples(TEXTS, _HALVES).map(lambda pair: f'{pair[0][:-1]}{pair[1]}"')

_WHOLE = st.integers(-(2**63), 2**64 - 1).map(str) | st.integers(-1000, 1000).map(str)
_OTHER = st.tuples(
    st.sampled_from(["0", "-0", "1", "-17", "123456789012345678901"]),
    st.sampled_from([".0", ".5", ".1", "." + "3" * 60]),
    st.sampled_from(["", "e5", "E+10", "e-400", "e286", "e-9999999999"]),
).map("".join)
_BEYOND = st.sampled_from(["1e309", "-1E+999", "9" * 400, str(2**64), str(-(2**63) - 1), "9" * 320 + ".5"])
_FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)
NUMBERS = st.sampled_from([_WHOLE, _WHOLE, _OTHER, _OTHER, _FLOATS, _FLOATS, _FLOATS, _BEYOND]).flatmap(
    lambda kind: kind
)
_SCALARS = TEXTS | NUMBERS | st.sampled_from(["true", "false", "null"])
#: Keys of a frame that are its sender's own.
_OWN_KEYS = TEXTS | st.sampled_from(['"__proto__"', '"constructor"', '"seq"', '"from"', '"a"', '"a"', '""'])
_KEYS = TEXTS | st.sampled_from(
    [
        '"message"',
        '"content"',
        '"to"',
        '"__proto__"',
        '"constructor"',
        '"seq"',
        '"from"',
        '"eventType"',
        '"a"',
        '"a"',
        '""',
    ]
)


def _array(items: list[str], blank: str) -> str:
    return f"[{blank}{f'{blank},{blank}'.join(items)}{blank}]"


def _object(items: list[tuple[str, str]], blank: str) -> str:
    return f"{{{blank}{f'{blank},{blank}'.join(f'{key}{blank}:{blank}{value}' for key, value in items)}{blank}}}"


def objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects, keys twice and all."""
    return st.builds(_object, st.lists(st.tuples(_KEYS, values), max_size=4), _BLANKS)


VALUES = st.recursive(
    _SCALARS, lambda inner: st.builds(_array, st.lists(inner, max_size=3), _BLANKS) | objects(inner), max_leaves=5
)
OBJECTS = objects(VALUES)
_TIMES = st.builds(
    lambda between, rest: json.dumps(f"2026-01-01{between}{rest}"),
    st.sampled_from(["T", " "]) | _CHARACTERS,
    st.sampled_from(["00:00:00", "00:00", "12:30:00.123+01:00", "00:00:00Z", "25:00:00"]),
) | st.sampled_from(['"2026-01-01"', '"20260101T000000"', '"2026-W01-1"', '"noon"', "5"])
#: A field of a frame that says something, right or wrong.
_RIGHT = (
    OBJECTS.map(lambda value: ('"payload"', value)),
    VALUES.map(lambda value: ('"message"', value)),
    TEXTS.map(lambda value: ('"message"', value)),
    OBJECTS.map(lambda value: ('"metadata"', value)),
    _TIMES.map(lambda value: ('"timestamp"', value)),
    st.tuples(_OWN_KEYS, VALUES),
)
_WRONG = (
    _WRONG_TEXTS.map(lambda value: ('"message"', value)),
    VALUES.map(lambda value: ('"payload"', value)),
    TEXTS.map(lambda value: ('"type"', value)),
    TEXTS.map(lambda value: ('"source"', value)),
)
FIELDS = st.one_of(*_RIGHT)
CONTENTS = st.lists(FIELDS, min_size=1, max_size=4) | st.lists(st.one_of(*_RIGHT, *_WRONG), min_size=1, max_size=2)
_PRINTABLE = st.characters(categories=["L", "N", "P", "Sm", "Sc"]) | st.sampled_from('"\\ é😀')
IDS = st.lists(_PRINTABLE, max_size=5).map("".join) | st.lists(_PRINTABLE | _CHARACTERS, max_size=2).map("".join)


def frame(fields: list[tuple[str, str]], blank: str = "") -> str:
    """The text of a frame."""
    return _object(fields, blank)


BLANKS = _BLANKS


def _never(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


class Readers:
    """What reads a JSON text: Python's json, msgspec, and (with ``node``) JavaScript's JSON.parse in a process of its own."""

    def __init__(self, *, node: bool) -> None:
        self._node: subprocess.Popen[str] | None = None
        if node:
            self._node = subprocess.Popen(
                ["node", "-e", _NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )

    def read(self, texts: list[str]) -> list[Any]:
        """The values of the texts. Raises AssertionError where the readers differ, or one of them does not read."""
        values: list[Any] = []
        for text in texts:
            try:
                value = json.loads(text, parse_constant=_never)
                assert value == msgspec.json.decode(text), f"json and msgspec read {text!r} differently"
            except ValueError as problem:
                raise AssertionError(f"{problem}: {text!r}") from problem
            values.append(value)
        if self._node is not None and texts:
            assert self._node.stdin is not None
            assert self._node.stdout is not None
            self._node.stdin.write(json.dumps(texts) + "\n")
            self._node.stdin.flush()
            answers = json.loads(self._node.stdout.readline())
            for text, value, answer in zip(texts, values, answers, strict=True):
                assert "value" in answer, f"node: {answer}: {text!r}"
                assert as_doubles(json.loads(answer["value"])) == as_doubles(value), f"node reads {text!r} differently"
        return values

    def close(self) -> None:
        """End the process."""
        if self._node is not None:
            assert self._node.stdin is not None
            self._node.stdin.close()
            self._node.wait(timeout=20)
            assert self._node.stdout is not None
            self._node.stdout.close()


def as_doubles(value: Any) -> Any:
    """A value with every number as JavaScript has it."""
    if isinstance(value, dict):
        return {key: as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


_NODE = """
const lines = require("node:readline").createInterface({ input: process.stdin, crlfDelay: Infinity });
lines.on("line", (line) => {
  const answers = JSON.parse(line).map((text) => {
    try { return { value: JSON.stringify(JSON.parse(text)) }; } catch (problem) { return { problem: String(problem) }; }
  });
  process.stdout.write(JSON.stringify(answers) + "\\n");
});
"""
