"""What the grammar in C takes, Python's takes with the same result. What it leaves, Python alone decides."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus._speed import core
from bus.protocol.inbound import Inbound
from bus.protocol.usual import usual, usual_in_python
from tests.protocol.test_usual import NEARLY
from tests.speed.corpus import LEFT, TAKEN

pytestmark = [pytest.mark.pure, pytest.mark.skipif(core is None, reason="the extension was not built")]

#: Bytes at which a grammar turns.
TURNS = b'\x00\x1f \n"\\{}[],:tfn0-.eE9u/\x7f\x80\xbf\xc2\xed\xf4\xff'
#: The borders of the bytes of UTF-8.
BORDERS = bytes.fromhex("7f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")


def taken(data: bytes) -> bool:
    """Whether the grammar in C takes the frame; the result is then Python's, type by type."""
    assert core is not None
    found = core.quickly(data)
    if found is None:
        return False
    told = usual_in_python(data)
    assert found == told, data
    assert [type(value) for value in parts(found)] == [type(value) for value in parts(told)]
    return True


def parts(inbound: Inbound | None) -> list[Any]:
    assert isinstance(inbound, Inbound)
    return [getattr(inbound, name) for name in inbound.__struct_fields__]


@pytest.mark.parametrize("data", TAKEN)
def test_the_usual_frame_is_taken(data: bytes) -> None:
    assert taken(data)
    assert usual(data) == usual_in_python(data)


@pytest.mark.parametrize("data", LEFT)
def test_any_other_is_left_to_python(data: bytes) -> None:
    assert not taken(data)
    assert usual(data) == usual_in_python(data)


@given(NEARLY, st.booleans(), st.sampled_from([None, 1, 9]), st.sampled_from([(",", ":"), (" , ", " :\t")]))
def test_both_say_the_same_of_any_frame(
    frame: dict[str, Any], ascii_only: bool, indent: int | None, separators: tuple[str, str]
) -> None:
    text = json.dumps(frame, ensure_ascii=ascii_only, indent=indent, separators=separators)
    taken(text.encode("utf-8", "replace"))


@given(st.sampled_from(TAKEN + LEFT), st.data())
def test_both_say_the_same_of_any_bytes(data: bytes, draw: st.DataObject) -> None:
    for _ in range(draw.draw(st.integers(1, 4))):
        begin, size = draw.draw(st.integers(0, len(data))), draw.draw(st.integers(0, 6))
        data = data[:begin] + draw.draw(st.binary(max_size=6) | st.sampled_from(TAKEN + LEFT)) + data[begin + size :]
    taken(data)


def test_both_say_the_same_of_each_frame_with_one_byte_wrong_or_missing() -> None:
    for data in TAKEN + [frame for frame in LEFT if len(frame) < 200]:
        for place in range(len(data)):
            taken(data[:place])
            taken(data[:place] + data[place + 1 :])
            for byte in TURNS:
                taken(b"%b%c%b" % (data[:place], byte, data[place + 1 :]))


def test_a_text_is_utf_8_for_both_or_for_none() -> None:
    short = [bytes(letters) for size in (1, 2, 3) for letters in itertools.product(BORDERS, repeat=size)]
    # A character of four bytes, and one byte too many.
    long = [bytes((a, b, c, 0x80, 0x41)) for a in range(0xEF, 0xF6) for b in BORDERS for c in BORDERS]
    for number, letters in enumerate(short + long):
        whole = b"x" * (number % 9) + letters
        for text in (whole, whole[:-1]):
            assert taken(b'{"message":"%b"}' % text) is is_utf_8(text), text


def is_utf_8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_what_is_not_bytes_is_left_to_python() -> None:
    assert core is not None
    assert core.quickly("{}") is None
    assert core.quickly(bytearray(b"{}")) is None
    assert core.quickly(None) is None
    with pytest.raises(TypeError):
        core.configure_usual(Inbound, "publish")
    with pytest.raises(TypeError):
        core.configure_usual(Inbound, 5, usual_in_python)
