"""Golden frames of a streamed message, byte for byte."""

from __future__ import annotations

import json

import pytest

from bus.protocol import frames, growing
from bus.protocol.inbound import KIND_PUBLISH, MODE_PARTS, MODE_TEXT, Inbound
from bus.protocol.names import Address

pytestmark = pytest.mark.pure

AT = Address("chat", "42")


def test_the_opening_message_shows_its_mode_before_the_payload() -> None:
    inbound = Inbound(KIND_PUBLISH, "event", stream=MODE_TEXT, payload=b'{"role":"assistant"}')
    assert frames.message_tail(inbound) == b',"stream":{"mode":"text"},"payload":{"role":"assistant"}}'


def test_a_steer_names_its_stream_before_the_payload() -> None:
    inbound = Inbound(KIND_PUBLISH, "event", steer="arq_ä", message=b'"no"')
    assert frames.message_tail(inbound) == ',"steer":"arq_ä","payload":{},"message":"no"}'.encode()


def test_a_part_of_a_text_and_of_a_list() -> None:
    assert frames.part(AT, "arq_a1", 1, MODE_TEXT, b"Hel\\n") == (
        b'{"type":"append","room":"chat","channel":"42","of":"arq_a1","n":1,"delta":"Hel\\n"}'
    )
    assert frames.part(AT, "arq_a1", 2, MODE_PARTS, b'{"type":"RUN_STARTED"}') == (
        b'{"type":"append","room":"chat","channel":"42","of":"arq_a1","n":2,"part":{"type":"RUN_STARTED"}}'
    )


def test_a_snapshot_has_all_so_far() -> None:
    assert frames.snapshot(AT, "arq_a1", 812, MODE_TEXT, 1, b"Hello", 7, "ada") == (
        b'{"type":"append","room":"chat","channel":"42","of":"arq_a1","upto":812,"text":"Hello","snapshot":true,'
        b'"attempt":1,"mode":"text","of_seq":7,"from":"ada"}'
    )
    assert frames.snapshot(AT, "arq_a1", 2, MODE_PARTS, 3, b'{"a":1},{"b":2}', 7, "ada") == (
        b'{"type":"append","room":"chat","channel":"42","of":"arq_a1","upto":2,"parts":[{"a":1},{"b":2}],'
        b'"snapshot":true,"attempt":3,"mode":"parts","of_seq":7,"from":"ada"}'
    )
    assert json.loads(frames.snapshot(AT, "arq_a1", 0, MODE_PARTS, 2, b"", 7, "ada"))["parts"] == []


def test_the_end_is_a_message_with_the_whole_text() -> None:
    head = growing.stream_end_head("arq_a1", None, AT, "alice")
    tail = growing.stream_end_tail("arq_a1", 7, MODE_TEXT, "complete", 900, ["arq_s1"], b'{"usage":1}', b"Hi")
    assert frames.finish_message(head, tail, b"T", 8) == (
        b'{"version":"1.0","id":"arq_a1_end","type":"stream_end","room":"chat","channel":"42","from":"alice",'
        b'"timestamp":"T","seq":8,"of":"arq_a1","of_seq":7,"stream":{"mode":"text","state":"complete","parts":900},'
        b'"untaken":["arq_s1"],"payload":{"usage":1},"message":"Hi"}'
    )


def test_the_end_of_a_list_has_the_list() -> None:
    tail = growing.stream_end_tail("arq_a1", 7, MODE_PARTS, "aborted", 2, (), None, b'{"a":1},{"b":2}')
    assert tail == (
        b',"of":"arq_a1","of_seq":7,"stream":{"mode":"parts","state":"aborted","parts":2},"untaken":[],"payload":{},'
        b'"parts":[{"a":1},{"b":2}]}'
    )


@pytest.mark.parametrize(("given", "uid"), [(None, "arq_a1_end"), ("e1", "arq_e1"), ("arq_e1", "arq_e1")])
def test_the_owner_may_give_the_end_an_id(given: str | None, uid: str) -> None:
    assert growing.end_uid("arq_a1", given) == uid


def test_an_ack_tells_how_far_the_stream_is() -> None:
    told = growing.stream_told("arq_a1", 3, "open", 2, stopping=True)
    assert frames.ack("m1", AT, None, growth=told) == (
        b'{"type":"ack","request_id":"m1","seq":null,"room":"chat","channel":"42",'
        b'"stream":{"of":"arq_a1","have":3,"state":"open","attempt":2,"stopping":true}}'
    )
    assert growing.stream_told("arq_a1", 0, "open", 1) == (
        b',"stream":{"of":"arq_a1","have":0,"state":"open","attempt":1}'
    )
    assert growing.stream_told("arq_a1", 2, "complete", 1, untaken=["arq_s1", "arq_s2"]) == (
        b',"stream":{"of":"arq_a1","have":2,"state":"complete","attempt":1,"untaken":["arq_s1","arq_s2"]}'
    )


@pytest.mark.parametrize("steered", [True, False])
def test_an_ack_tells_whether_a_steer_came_in_time(steered: bool) -> None:
    ack = json.loads(frames.ack("s1", AT, 9, growth=growing.steered_told(steered)))
    assert (ack["seq"], ack["steered"]) == (9, steered)


def test_the_owner_is_told_of_a_stop_and_of_a_steer() -> None:
    start = b'{"version":"1.0","type":"system","from":"arqonbus_server","room":"chat","channel":"42","payload":'
    assert growing.stop_requested(AT, "arq_a1") == start + b'{"event":"stop_requested","of":"arq_a1"}}'
    frame = b'{"id":"arq_s1","steer":"arq_a1","payload":{ }}'
    assert growing.steer_notice(AT, "arq_a1", frame) == (
        start + b'{"event":"steer","of":"arq_a1","message":' + frame + b"}}"
    )
