"""Golden frames: every frame that the server sends, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.protocol import frames
from bus.protocol.errors import BusError, ErrorCode
from bus.protocol.inbound import KIND_PUBLISH, Inbound
from bus.protocol.limits import Limits
from bus.protocol.names import Address, inbox
from bus.version import PROTOCOL, VERSION

pytestmark = pytest.mark.pure

AT = Address("science", "explore")


def test_a_message_in_the_log() -> None:
    inbound = Inbound(
        kind=KIND_PUBLISH,
        type="event",
        payload=b'{"message":"hi"}',
        message=b'"hi"',
        metadata=b'{"trace":1}',
        client_timestamp="2025-01-01T12:00:00.000Z",
    )
    head, tail = frames.message_head("arq_1", inbound.type, AT, "alice"), frames.message_tail(inbound)
    assert frames.finish_message(head, tail, b"2026-01-01T00:00:00.000Z", 42) == (
        b'{"version":"1.0","id":"arq_1","type":"event","room":"science","channel":"explore","from":"alice",'
        b'"timestamp":"2026-01-01T00:00:00.000Z","seq":42,"payload":{"message":"hi"},"message":"hi",'
        b'"metadata":{"trace":1},"client_timestamp":"2025-01-01T12:00:00.000Z"}'
    )


def test_a_message_of_an_ephemeral_channel_has_no_seq() -> None:
    head, tail = (
        frames.message_head("arq_1", "tick", AT, "alice"),
        frames.message_tail(Inbound(kind=KIND_PUBLISH, type="tick")),
    )
    assert frames.finish_message(head, tail, b"2026-01-01T00:00:00.000Z", None) == (
        b'{"version":"1.0","id":"arq_1","type":"tick","room":"science","channel":"explore","from":"alice",'
        b'"timestamp":"2026-01-01T00:00:00.000Z","payload":{}}'
    )


def test_a_telemetry_message() -> None:
    inbound = Inbound(kind="telemetry", type="telemetry", payload=b'{"n":1}', event_type=b'"step"', source=b'"me"')
    at = Address("integriguard", "telemetry-stream")
    head, tail = (
        frames.message_head("arq_1", "telemetry", at, "alice"),
        frames.message_tail(inbound),
    )
    assert frames.finish_message(head, tail, b"T", 1) == (
        b'{"version":"1.0","id":"arq_1","type":"telemetry","room":"integriguard","channel":"telemetry-stream",'
        b'"from":"alice","timestamp":"T","seq":1,"payload":{"n":1},"eventType":"step","source":"me"}'
    )


def test_an_ack() -> None:
    assert frames.ack("m1", AT, 42) == (
        b'{"type":"ack","request_id":"m1","seq":42,"room":"science","channel":"explore"}'
    )


def test_an_ack_of_a_repeated_message() -> None:
    assert frames.ack("m1", AT, 42, duplicate=True) == (
        b'{"type":"ack","request_id":"m1","seq":42,"room":"science","channel":"explore","duplicate":true}'
    )


def test_an_ack_of_an_ephemeral_message_without_an_id() -> None:
    assert frames.ack(None, AT, None) == (
        b'{"type":"ack","request_id":null,"seq":null,"room":"science","channel":"explore"}'
    )


def test_an_ack_of_a_private_message_to_several() -> None:
    assert frames.ack("m1", Address("pm", "*"), None, targets={"bob": 3, "carol": 9}) == (
        b'{"type":"ack","request_id":"m1","seq":null,"room":"pm","channel":"*","targets":{"bob":3,"carol":9}}'
    )


def test_a_system_frame_about_a_channel() -> None:
    assert frames.system("client_joined", AT, client_id="bob", participants=2) == (
        b'{"version":"1.0","type":"system","from":"arqonbus_server","room":"science","channel":"explore",'
        b'"payload":{"event":"client_joined","client_id":"bob","participants":2}}'
    )


def test_a_system_frame_about_the_connection() -> None:
    assert frames.system("welcome", client_id="client-1", registered=False) == (
        b'{"version":"1.0","type":"system","from":"arqonbus_server",'
        b'"payload":{"event":"welcome","client_id":"client-1","registered":false}}'
    )


@given(st.text(max_size=40))
def test_a_welcome_is_the_system_frame_that_it_looks_like(client_id: str) -> None:
    limits = Limits(frame_bytes=1000, depth=5, targets=3, frames_per_second=2.5)
    told = {"frame_bytes": 1000, "depth": 5, "targets": 3, "frames_per_second": 2.5}
    assert frames.welcome(client_id, limits) == frames.system(
        "welcome", client_id=client_id, protocol=PROTOCOL, server_version=VERSION, limits=told, registered=False
    )


def test_an_error() -> None:
    assert frames.error(BusError(ErrorCode.CHANNEL_NOT_FOUND, "No a:b.", [{"address": "a:b"}]), "m1") == (
        b'{"type":"error","request_id":"m1","error":{"code":"CHANNEL_NOT_FOUND","number":404,"message":"No a:b.",'
        b'"details":[{"address":"a:b"}]}}'
    )
    assert json.loads(frames.error(BusError(ErrorCode.BUSY, retry_after=0.5)))["error"]["retry_after"] == 0.5


def test_a_command_response_speaks_to_both_dialects() -> None:
    assert frames.command_response("arq_9", "m1", "ping", "pong", {"pong": True}) == (
        b'{"version":"1.0","type":"command_response","id":"arq_9","request_id":"m1","from":"arqonbus_server",'
        b'"command":"ping","status":"success","message":"pong","result":{"pong":true},"payload":{"request_id":"m1",'
        b'"command":"ping","status":"success","message":"pong","result":{"pong":true}}}'
    )


def test_a_command_error_speaks_to_both_dialects() -> None:
    assert frames.command_error("arq_9", None, "nope", BusError(ErrorCode.UNKNOWN_COMMAND, "No nope.")) == (
        b'{"version":"1.0","type":"command_response","id":"arq_9","request_id":null,"from":"arqonbus_server",'
        b'"command":"nope","status":"error","message":"No nope.","error":{"code":"UNKNOWN_COMMAND","number":400,'
        b'"message":"No nope.","details":[]},"payload":{"request_id":null,"command":"nope","status":"error",'
        b'"message":"No nope.","error":{"code":"UNKNOWN_COMMAND","number":400,"message":"No nope.","details":[]}}}'
    )


@pytest.mark.parametrize(("given", "uid"), [("arq_7", "arq_7"), ("7", "arq_7"), ("ARQ_7", "arq_ARQ_7")])
def test_a_message_is_delivered_under_an_arq_id(given: str, uid: str) -> None:
    assert frames.message_uid(given) == uid


def test_a_repeat_is_one_of_the_same_sender_and_for_private_messages_of_the_same_target() -> None:
    keys = [
        frames.publish_key("alice", "m1", AT),
        frames.publish_key("bob", "m1", AT),
        frames.publish_key("alice", "m1", inbox("bob")),
        frames.publish_key("alice", "m1", inbox("carol")),
    ]
    assert len(set(keys)) == 4
    assert frames.publish_key("alice", "m1", Address("lab", "x")) == keys[0]


@given(st.text())
def test_any_id_is_quoted_as_json(text: str) -> None:
    assert json.loads(frames.quoted(text)) == text


@given(
    st.text(min_size=1, max_size=30),
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=10) | st.integers(), max_size=5),
)
def test_every_kind_of_answer_is_json_whatever_it_holds(text: str, values: dict[str, Any]) -> None:
    problem = BusError(ErrorCode.FORBIDDEN, text, [values])
    for frame in (
        frames.ack(text, AT, 1),
        frames.system(text, AT, value=values),
        frames.error(problem, text),
        frames.command_response(text, text, text, text, values),
        frames.command_error(text, text, text, problem),
    ):
        assert isinstance(json.loads(frame), dict)
