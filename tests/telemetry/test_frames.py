"""The form of telemetry frames, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.protocol.dialects import decode_object, normalise
from bus.protocol.faults import FrameError
from bus.protocol.inbound import KIND_REGISTER, KIND_TELEMETRY, Inbound
from telemetry import protocol

pytestmark = pytest.mark.pure


def _telemetry(frame: Any) -> Inbound:
    return protocol.grammar(json.dumps(frame).encode())


def _bus(frame: Any) -> Inbound:
    return normalise(decode_object(json.dumps(frame).encode()))


def _faults(read: Any, frame: Any) -> set[str]:
    with pytest.raises(FrameError) as caught:
        read(frame)
    assert caught.value.code == "VALIDATION_ERROR"
    return {fault["field"] for fault in caught.value.details}


@pytest.mark.parametrize("read", [_telemetry, _bus])
@pytest.mark.parametrize("key", ["eventType", "event_type"])
def test_both_spellings_of_the_event_type_are_taken_on_both_sockets(read: Any, key: str) -> None:
    inbound = read({key: "cpu", "payload": {"load": 0.5}, "source": "probe-1", "timestamp": "2026-01-01T00:00:00Z"})
    assert inbound.kind == KIND_TELEMETRY
    assert inbound.event_type == b'"cpu"'
    assert inbound.source == b'"probe-1"'
    assert inbound.payload == b'{"load": 0.5}'
    assert inbound.client_timestamp == "2026-01-01T00:00:00Z"


def test_a_v1_frame_may_keep_the_event_type_inside_its_payload() -> None:
    frame = {"version": "1.0", "id": "arq_1", "type": "telemetry", "payload": {"eventType": "cpu", "load": 1}}
    assert _bus(frame).event_type == b'"cpu"'


def test_every_fault_of_a_frame_is_listed_at_once() -> None:
    frame = {
        "eventType": 5,
        "payload": [1],
        "timestamp": "yesterday",
        "source": {"a": 1},
        "metadata": "x",
        "ack": "yes",
    }
    assert _faults(_telemetry, frame) == {"eventType", "payload", "timestamp", "source", "metadata", "ack"}


@pytest.mark.parametrize(
    ("frame", "fields"),
    [
        ({}, {"eventType", "payload"}),
        ({"eventType": "x"}, {"payload"}),
        ({"eventType": "x", "payload": None}, {"payload"}),
        ({"payload": {}}, {"eventType"}),
        ({"eventType": "", "payload": {}}, {"eventType"}),
        ({"eventType": "x" * 129, "payload": {}}, {"eventType"}),
        ({"eventType": "a\nb", "payload": {}}, {"eventType"}),
        ({"eventType": "x", "payload": {}, "timestamp": 5}, {"timestamp"}),
        ({"eventType": "x", "payload": {}, "source": ""}, {"source"}),
        ({"type": "event", "eventType": "x", "payload": {}}, {"type"}),
        ({"command": "ping"}, {"type", "eventType", "payload"}),
    ],
)
def test_a_wrong_frame_on_the_telemetry_socket_names_its_fields(frame: Any, fields: set[str]) -> None:
    assert _faults(_telemetry, frame) == fields


def test_the_telemetry_socket_takes_a_registration_too() -> None:
    assert _telemetry({"client_id": "probe", "client_type": "service"}).kind == KIND_REGISTER


def test_activity_tells_what_a_client_did_and_nothing_it_said() -> None:
    card = {"client_id": "a", "client_type": "ai-agent", "screen_name": None, "avatar": "x"}
    note = protocol.activity(card, "event", "science", "explore", "2026-01-01T00:00:00.000Z")
    assert note.payload is not None
    assert json.loads(note.payload) == {
        "eventType": "agent_activity",
        "client_id": "a",
        "client_type": "ai-agent",
        "screen_name": None,
        "activity": "event",
        "room": "science",
        "channel": "explore",
        "timestamp": "2026-01-01T00:00:00.000Z",
    }
