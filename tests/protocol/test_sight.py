"""A frame that cannot be decoded is refused under its own id, where that is seen."""

from __future__ import annotations

import pytest

from bus.protocol.dialects import decode_object
from bus.protocol.faults import FrameError
from bus.protocol.limits import Limits
from bus.protocol.session import Session
from bus.protocol.sight import id_at_sight

pytestmark = pytest.mark.pure

HALF = '"\\ud83d"'


@pytest.mark.parametrize(
    ("frame", "seen"),
    [
        (f'{{"id":"a","message":{HALF}}}', "a"),
        (f'{{"message":{HALF},"id":"a"}}', "a"),
        (f'{{ "message" : {HALF} , "id" :\n"a\\u0062" }}\n', "ab"),
        (f'{{"message":{HALF},"id":17,"x":1}}', "17"),
        (f'{{"payload":{{"id":"inner","x":["id"]}},"x":"id","id":"a","message":{HALF}}}', "a"),
        (f'{{"payload":{{"id":"inner","t":{HALF}}}}}', None),
        (f'{{"id":"a","text":"{"x" * 300_000}","message":{HALF}}}', "a"),
        (f'{{"text":"{"x" * 300_000}","message":{HALF},"id":"a"}}', "a"),
        (f'{{"text":"{"x" * 300_000}","id":"a","more":"{"x" * 300_000}","message":{HALF}}}', None),
        (f'{{"id":{HALF},"message":"x"}}', None),
        (f'{{"id":{{}},"message":{HALF}}}', None),
        ('{"id":"a","message":', "a"),
        ('{"id":"a","message":"', "a"),
        ('{"message":"x" "id":"a"', "a"),
        ('{"id":"a"}}', "a"),
        ('["id",{"id":"a"}]', None),
        ("no JSON", None),
        ("", None),
    ],
)
def test_a_frame_that_is_no_json_is_told_with_the_id_that_is_seen(frame: str, seen: str | None) -> None:
    with pytest.raises(FrameError) as caught:
        decode_object(frame.encode())
    assert (caught.value.code, caught.value.request_id) == ("INVALID_JSON", seen)


def test_an_id_of_another_coding_is_not_seen() -> None:
    with pytest.raises(FrameError) as caught:
        decode_object(b'{"id":"\xff","message":"x"}')
    assert caught.value.request_id is None


@pytest.mark.parametrize(
    "frame",
    [b'{"id":' * 100_000, b'"id":' * 100_000, b'"' * 500_000, b"[" * 500_000, b',"id":"' * 100_000, b" " * 500_000],
)
def test_the_look_for_an_id_reads_a_few_thousand_bytes(frame: bytes) -> None:
    assert id_at_sight(frame) is None


def test_a_frame_that_nests_too_deeply_is_refused_under_its_id() -> None:
    session = Session(Limits(depth=8), now=0.0)
    for frame in (
        b'{"id":"a","payload":{"x":' + b"[" * 8,
        b'{"payload":' + b'{"x":' * 8 + b"1" + b"}" * 9 + b',"id":"a"}',
    ):
        with pytest.raises(FrameError) as caught:
            session.receive(frame, 0.0)
        assert (caught.value.code, caught.value.request_id) == ("INVALID_JSON", "a")
