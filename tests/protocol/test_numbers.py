"""The numbers that are taken are those that every reader reads, and reads alike (docs/protocol.md, "Numbers")."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.protocol.dialects import normalise, read_closely
from bus.protocol.faults import FrameError
from bus.protocol.numbers import HIGHEST, LOWEST, as_text, out_of_range, unusual
from bus.protocol.usual import read, usual

pytestmark = pytest.mark.pure

DIGITS = st.text("0123456789", min_size=1, max_size=40) | st.sampled_from(["9" * 308, "1" * 309, "9" * 5000])
WHOLE = DIGITS.map(lambda text: text.lstrip("0") or "0")
FRACTIONS = st.just("") | DIGITS.map(lambda text: f".{text}") | st.just("." + "3" * 400)
EXPONENTS = st.just("") | st.tuples(
    st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 400).map(str) | DIGITS
).map("".join)
#: Everything that JSON calls a number.
NUMBERS = st.tuples(st.sampled_from(["", "-"]), WHOLE, FRACTIONS, EXPONENTS).map("".join)


def is_taken(text: str) -> bool:
    """The rule in its plainest words."""
    if "." in text or "e" in text.lower():
        return math.isfinite(float(text))
    return len(text) < 30 and LOWEST <= int(text) <= HIGHEST


@given(NUMBERS)
@example("18446744073709551615")
@example("18446744073709551616")
@example("-9223372036854775808")
@example("-9223372036854775809")
@example("-0")
@example("1e309")
@example("1.7976931348623157e308")
@example("1.7976931348623159e308")
@example("123456789012345678e290")
@example("1e+000000000000000309")
@example("0e999")
def test_the_rule_holds_for_every_number_and_what_is_taken_every_reader_takes(number: str) -> None:
    taken = is_taken(number)
    for text in (number, f"[{number}]", f'{{"a":[1,{{"b":{number}}}],"c":"\\"{number}"}}', f"[-1.5e3,{number},0]"):
        data = text.encode()
        assert (out_of_range(data) is None) is taken, text
        if not taken:
            assert unusual(data)
            assert out_of_range(data) == number.encode()
        for readable in (as_text(data), data) if taken else (as_text(data),):
            assert json.loads(readable) == msgspec.json.decode(readable)
    if taken:
        assert as_text(number.encode()) == number.encode()
    else:
        assert json.loads(as_text(f"[{number}]".encode())) == [number]


@given(st.lists(st.text() | NUMBERS, max_size=4))
def test_digits_within_texts_are_no_numbers(texts: list[str]) -> None:
    for data in (json.dumps(texts).encode(), json.dumps(dict.fromkeys(texts, 1), ensure_ascii=False).encode()):
        assert out_of_range(data) is None
        assert as_text(data) == data


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 20, "9" * 5000, "-9223372036854775809", "1" * 400 + ".5"])
@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ('{"id":"i","payload":{"deep":[{"n":%s}]}}', "payload"),
        ('{"id":"i","message":%s}', "message"),
        ('{"id":"i","metadata":{"n":%s},"message":"x"}', "metadata"),
        ('{"id":"i","message":"x","trace":%s}', "trace"),
        ('{"id":"i","type":"private","to":"a","payload":{"n":%s}}', "payload"),
        ('{"id":"i","type":"telemetry","eventType":"x","payload":{"n":%s}}', "payload"),
        ('{"id":"i","command":"history","parameters":{"limit":%s}}', "parameters"),
        ('{"id":"i","type":"register","personality":{"n":%s}}', "personality"),
        ('{"version":"1.0","id":"arq_i","type":"register","payload":{"personality":{"n":%s}}}', "payload"),
        ('{"version":"1.0","id":"arq_i","type":"event","payload":{"n":%s}}', "payload"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_field(frame: str, field: str, number: str) -> None:
    data = (frame % number).encode()
    assert usual(data) is None
    for door in (read, read_closely):
        with pytest.raises(FrameError) as caught:
            door(data)
        assert caught.value.code == "VALIDATION_ERROR"
        assert caught.value.request_id in ("i", "arq_i")
        (fault,) = [fault for fault in caught.value.details if "out of range" in fault["message"]]
        assert fault["field"] == field
        assert fault["message"].startswith(f"{number[:40]} is out of range: ")
    assert read_closely((frame % 1).encode()).id in ("i", "arq_i")


def test_numbers_are_looked_at_unless_somebody_has() -> None:
    with pytest.raises(FrameError):
        normalise({"message": msgspec.Raw(b"1e999")})


@pytest.mark.parametrize("value", ["-0", "0." + "3" * 400, "1e-999", str(HIGHEST), str(LOWEST), "1764326989123456789"])
def test_odd_numbers_within_the_range_are_handed_on_as_they_came(value: str) -> None:
    inbound = read(f'{{"message":{value},"payload":{{"n":{value}}}}}'.encode())
    assert inbound.message == value.encode()
    assert inbound.payload == f'{{"n":{value}}}'.encode()
