"""Both dialects become one canonical frame, and the payload keeps the bytes of the sender."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus.protocol import dialects, frames
from bus.protocol.dialects import decode_object, normalise, request_id_of, token_of
from bus.protocol.errors import BusError
from bus.protocol.faults import FrameError
from bus.protocol.inbound import (
    KIND_COMMAND,
    KIND_PRIVATE,
    KIND_PUBLISH,
    KIND_REGISTER,
    KIND_TELEMETRY,
    Inbound,
    copies_of,
    size_of,
)
from bus.protocol.names import Address
from bus.protocol.registration import Registration, Resume, registration_from
from bus.protocol.values import seq_of, valid_time

pytestmark = pytest.mark.pure


def read(frame: Any) -> Inbound:
    """A frame, as an object or as its text, in canonical form."""
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return normalise(decode_object(data))


def refused(frame: Any) -> FrameError:
    with pytest.raises(FrameError) as caught:
        read(frame)
    return caught.value


def outcome(data: bytes) -> tuple[Inbound | None, BusError | None]:
    """What becomes of a frame; anything else that is raised is a fault of ours."""
    try:
        return read(data), None
    except BusError as problem:
        return None, problem


def fields(problem: BusError) -> list[str]:
    return [fault["field"] for fault in problem.details]


def v1(type: str = "event", **more: Any) -> dict[str, Any]:
    return {"version": "1.0", "id": "arq_1", "type": type, **more}


# --- the two dialects say the same ------------------------------------------------------------------------------------

V0_AND_V1 = [
    pytest.param(
        {"type": "event", "id": "arq_1", "room": "science", "channel": "explore", "message": "hello"},
        v1(room="science", channel="explore", payload={"message": "hello"}),
        id="event",
    ),
    pytest.param(
        {"type": "private", "id": "arq_1", "to": ["b"], "message": "psst"},
        v1("private", room=None, channel=None, payload={"message": "psst", "target": "b"}),
        id="private to one",
    ),
    pytest.param(
        {"type": "private", "id": "arq_1", "to": ["b", "c"], "message": "psst"},
        v1("private", payload={"message": "psst", "targets": ["b", "c"]}),
        id="private to two",
    ),
    pytest.param(
        {"type": "command", "id": "arq_1", "command": "join_channel", "args": {"room": "a", "channel": "b"}},
        v1(
            "command",
            channel="control",
            payload={"command": "join_channel", "parameters": {"room": "a", "channel": "b"}},
        ),
        id="command",
    ),
    pytest.param(
        {"type": "telemetry", "id": "arq_1", "eventType": "step", "payload": {"n": 1}},
        v1("telemetry", eventType="step", payload={"n": 1}),
        id="telemetry",
    ),
    pytest.param(
        {"client_id": "a", "client_type": "app", "room": "science:explore", "personality": {"mood": "calm"}},
        {"version": "1.0", "type": "register", "payload": {"client_id": "a", "client_type": "app"}}
        | {"room": "science:explore", "personality": {"mood": "calm"}},
        id="registration",
    ),
]


@pytest.mark.parametrize(("v0_frame", "v1_frame"), V0_AND_V1)
def test_both_dialects_become_the_same(v0_frame: dict[str, Any], v1_frame: dict[str, Any]) -> None:
    one, other = read(v0_frame), read(v1_frame)
    assert one.kind == other.kind
    assert one.type == other.type
    assert one.id == other.id
    assert (one.room, one.channel, one.to) == (other.room, other.channel, other.to)
    assert one.message == other.message
    assert (one.command, one.parameters) == (other.command, other.parameters)
    assert one.event_type == other.event_type
    assert one.registration == other.registration


@pytest.mark.parametrize(
    ("frame", "kind", "type"),
    [
        ({}, KIND_PUBLISH, "event"),
        ({"message": "x"}, KIND_PUBLISH, "event"),
        ({"type": ""}, KIND_PUBLISH, "event"),
        ({"type": None}, KIND_PUBLISH, "event"),
        ({"type": "message"}, KIND_PUBLISH, "event"),
        ({"type": "chess.move"}, KIND_PUBLISH, "chess.move"),
        ({"type": "system"}, KIND_PUBLISH, "system"),
        ({"type": "private", "to": "b"}, KIND_PRIVATE, "private"),
        ({"type": "command", "command": "ping"}, KIND_COMMAND, "command"),
        ({"command": "ping"}, KIND_COMMAND, "command"),
        ({"type": "telemetry", "eventType": "x", "payload": {}}, KIND_TELEMETRY, "telemetry"),
        ({"eventType": "x", "payload": {}}, KIND_TELEMETRY, "telemetry"),
        ({"event_type": "x", "payload": {}}, KIND_TELEMETRY, "telemetry"),
        ({"type": "telemetry", "payload": {"eventType": "x"}}, KIND_TELEMETRY, "telemetry"),
        ({"type": "telemetry", "payload": {"event_type": "x"}}, KIND_TELEMETRY, "telemetry"),
        ({"type": "register"}, KIND_REGISTER, "register"),
        ({"client_id": "a"}, KIND_REGISTER, "register"),
        ({"client_type": "app"}, KIND_REGISTER, "register"),
        ({"screen_name": "A"}, KIND_REGISTER, "register"),
        ({"token": "t"}, KIND_REGISTER, "register"),
        # With something to say it is no registration.
        ({"client_id": "a", "message": "hi"}, KIND_PUBLISH, "event"),
        ({"client_id": "a", "content": "hi"}, KIND_PUBLISH, "event"),
        ({"client_id": "a", "payload": {}}, KIND_PUBLISH, "event"),
    ],
)
def test_a_frame_is_of_the_type_it_says_or_of_the_one_its_keys_tell(frame: Any, kind: str, type: str) -> None:
    inbound = read(frame)
    assert (inbound.kind, inbound.type) == (kind, type)


@pytest.mark.parametrize("alias", ["from_client", "sender"])
def test_the_senders_from_is_ignored(alias: str) -> None:
    inbound = read({"type": "event", "message": "x", "from": "root", alias: "root"})
    assert inbound.metadata is None


@pytest.mark.parametrize("spelling", ["to", "to_client", "target", "targets"])
@pytest.mark.parametrize("value", ["b", ["b"]])
def test_targets_have_four_spellings_and_may_be_one_or_many(spelling: str, value: Any) -> None:
    assert read({"type": "private", spelling: value, "message": "x"}).to == ["b"]


@pytest.mark.parametrize(
    "frame",
    [
        {"channel": "pm", "to": ["b", "c"]},
        {"channel": "pm", "room": "science", "targets": ["b", "c"]},
        {"channel": "pm", "payload": {"targets": ["b", "c"]}},
        {"channel": "pm:b", "to": ["b", "c"]},
        {"room": "pm", "channel": "b", "to": ["b", "c"]},
        {"room": "pm:b", "to": ["b", "c", "b"]},
        {"type": "private", "payload": {"to": ["b", "c"]}},
        {"type": "private", "to": None, "payload": {"target": ["b", "c", "b"]}},
    ],
)
def test_a_message_to_somebody_names_them_in_any_of_the_known_places(frame: Any) -> None:
    assert read(frame).to == ["b", "c"]


def test_an_event_to_all_keeps_the_payloads_targets_to_itself() -> None:
    inbound = read({"type": "move", "payload": {"target": "goblin #3"}, "target": "goblin #3"})
    assert inbound.to == []
    assert json.loads(inbound.payload or b"") == {"target": "goblin #3"}
    assert json.loads(inbound.metadata or b"") == {"target": "goblin #3"}


def test_a_private_message_without_targets_is_left_for_the_door_to_refuse() -> None:
    assert read({"type": "private", "message": "x"}).to == []
    assert read({"type": "event", "to": [], "message": "x"}).to == []


@pytest.mark.parametrize("key", ["args", "params", "parameters"])
def test_parameters_have_three_spellings_in_two_places(key: str) -> None:
    assert read({"command": "history", key: {"limit": 5}}).parameters == {"limit": 5}
    assert read(v1("command", payload={"command": "history", key: {"limit": 5}})).parameters == {"limit": 5}


def test_the_canonical_spelling_wins_over_an_alias() -> None:
    assert read({"message": "canonical", "content": "alias"}).message == b'"canonical"'
    assert read({"content": "alias", "message": "canonical"}).message == b'"canonical"'
    assert read({"command": "ping", "args": {"a": 1}, "parameters": {"b": 2}}).parameters == {"b": 2}
    both = {"command": "ping", "args": {"a": 1}, "params": {"c": 3}, "parameters": {"b": 2}}
    assert read({"type": "command", "payload": both}).parameters == {"b": 2}


def test_what_stands_beside_the_parameters_are_hints() -> None:
    inbound = read({"command": "history", "limit": 5, "room": "science", "from": "x", "ack": True})
    assert inbound.hints == {"limit": 5}
    assert inbound.room == "science"
    # Beside a command `sender` is an alias of `from`; within its payload it is a parameter of `history`.
    assert read({"command": "history", "sender": "me"}).hints == {}
    assert read({"command": "mark", "seq": 3, "token": "t", "ack": True}).hints == {"seq": 3}
    assert read(v1("command", payload={"command": "history", "sender": "bob"})).hints == {"sender": "bob"}
    inside = read(v1("command", payload={"command": "history", "limit": 5, "parameters": None}))
    assert (inside.hints, inside.parameters) == ({"limit": 5}, {})


def test_only_v1_addresses_commands_to_the_channel_control() -> None:
    assert read(v1("command", channel="control", payload={"command": "ping"})).channel is None
    assert read({"command": "join_channel", "channel": "control"}).channel == "control"
    assert read(v1("command", channel="x", payload={"command": "ping"})).channel == "x"


# --- what is passed on ------------------------------------------------------------------------------------------------


def test_the_payloads_bytes_stay_as_they_came() -> None:
    payload = b'{ "b" : 1.0,"a":1e2, "a":0.10,"big":-9223372036854775808,"long":0.12345678901234567890,"u":"\\u00e9\xc3\xa9" }'
    inbound = read(b'{"type":"event","payload":' + payload + b"}")
    assert inbound.payload == payload
    head, tail = frames.message_head("arq_1", inbound.type, Address("a", "b"), "me"), frames.message_tail(inbound)
    assert payload in frames.finish_message(head, tail, b"now", 1)


@pytest.mark.parametrize(
    ("frame", "payload", "message"),
    [
        ({"message": "hi"}, {"message": "hi"}, "hi"),
        ({"content": "hi"}, {"message": "hi"}, "hi"),
        ({"message": {"any": ["json"]}}, {"message": {"any": ["json"]}}, {"any": ["json"]}),
        ({"message": None}, None, None),
        ({"payload": {"message": "hi"}}, {"message": "hi"}, "hi"),
        ({"payload": {"content": "hi"}}, {"content": "hi"}, "hi"),
        ({"payload": {"message": 5}}, {"message": 5}, None),
        ({"payload": None, "message": "hi"}, {"message": "hi"}, "hi"),
        ({"payload": {"x": 1}, "message": "hi"}, {"x": 1}, "hi"),
        ({"payload": {"message": "inner"}, "message": "outer"}, {"message": "inner"}, "outer"),
        ({}, None, None),
    ],
)
def test_the_text_is_message_and_the_rest_is_payload(frame: Any, payload: Any, message: Any) -> None:
    inbound = read(frame)
    assert (json.loads(inbound.payload) if inbound.payload else None) == payload
    assert (json.loads(inbound.message) if inbound.message else None) == message


@pytest.mark.parametrize(
    ("frame", "metadata"),
    [
        ({"message": "x"}, None),
        ({"message": "x", "metadata": None}, None),
        ({"message": "x", "metadata": {"a": 1}}, {"a": 1}),
        ({"message": "x", "trace": "t", "n": 1.5}, {"trace": "t", "n": 1.5}),
        ({"message": "x", "metadata": {"a": 1}, "trace": "t"}, {"a": 1, "trace": "t"}),
        ({"message": "x", "metadata": {}, "trace": "t"}, {"trace": "t"}),
        # Aliases that mean nothing on an event are the sender's own keys.
        (
            {"type": "note", "args": [1], "event_type": "e", "target": "t"},
            {"args": [1], "event_type": "e", "target": "t"},
        ),
        (
            {"type": "note", "command": "c", "parameters": {}, "eventType": 1},
            {"command": "c", "parameters": {}, "eventType": 1},
        ),
        # Secrets and the server's fields go no further.
        ({"message": "x", "token": "secret", "ticket": "secret", "seq": 5, "ack": True, "echo": False}, None),
        ({"eventType": "e", "payload": {}, "source": "s", "host": "h"}, {"host": "h"}),
    ],
)
def test_unknown_keys_pass_through_inside_metadata(frame: Any, metadata: Any) -> None:
    inbound = read(frame)
    assert (json.loads(inbound.metadata) if inbound.metadata else None) == metadata


@pytest.mark.parametrize(
    ("given", "read_as"),
    [("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), ("soon", "soon"), (5, "5"), ([1], "[1]"), (None, None)],
)
def test_the_time_of_a_job_is_known_and_stays_the_senders_own_key(given: Any, read_as: str | None) -> None:
    inbound = read({"message": "x", "deliver_at": given})
    assert inbound.deliver_at == read_as
    assert json.loads(inbound.metadata or b"null") == {"deliver_at": given}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2025-01-01T12:00:00.000Z", True),
        ("2025-01-01", True),
        ("2025-01-01T12:00:00+02:00", True),
        ("2025-13-01", False),
        ("yesterday", False),
        ("", False),
        (5, False),
        (None, False),
    ],
)
def test_a_valid_time_of_the_sender_is_kept(given: Any, kept: bool) -> None:
    assert read({"message": "x", "timestamp": given}).client_timestamp == (given if kept else None)


@pytest.mark.parametrize(("value", "read_as"), [(True, True), (False, False), (None, False)])
def test_echo_and_ack_are_flags(value: Any, read_as: bool) -> None:
    inbound = read({"message": "x", "echo": value, "ack": value})
    assert (inbound.echo, inbound.ack) == (read_as, read_as)
    assert not read({"message": "x"}).ack


@pytest.mark.parametrize(
    ("given", "read_as"), [("abc", "abc"), (5, "5"), (-1.5, "-1.5"), (None, None), ("é", "é"), ("a b", "a b")]
)
def test_an_id_is_a_text_or_a_number(given: Any, read_as: str | None) -> None:
    assert read({"id": given, "message": "x"}).id == read_as


def test_telemetry_keeps_its_fields() -> None:
    inbound = read({"eventType": "step", "payload": {"n": 1}, "source": "me", "timestamp": "2025-01-01T00:00:00Z"})
    assert (inbound.event_type, inbound.source) == (b'"step"', b'"me"')
    assert inbound.client_timestamp == "2025-01-01T00:00:00Z"


# --- registration -----------------------------------------------------------------------------------------------------


def test_a_registration_has_every_field_of_the_contract() -> None:
    inbound = read(
        {
            "client_id": "my-client-1",
            "client_type": "ai-agent",
            "room": "science:explore",
            "channel": "design",
            "screen_name": "Me",
            "avatar": "https://example.org/a.png",
            "personality": {"curious": True},
            "card": {"name": "Ada", "skills": ["sums"], "own": 1},
            "token": "secret",
            "since": 41,
            "epoch": "e1",
            "resume": {"token": "r", "positions": {"science:explore": {"epoch": "e1", "seq": 41}}},
        }
    )
    registration = inbound.registration
    assert registration is not None
    assert registration.client_id == "my-client-1"
    assert registration.client_type == "ai-agent"
    assert (registration.room, registration.channel) == ("science:explore", "design")
    assert (registration.screen_name, registration.avatar) == ("Me", "https://example.org/a.png")
    assert registration.personality == {"curious": True}
    assert registration.card == {"name": "Ada", "description": "", "skills": ["sums"]}
    assert (registration.token, registration.since, registration.epoch) == ("secret", 41, "e1")
    assert registration.resume is not None
    assert registration.resume.token == "r"
    assert registration.resume.positions == {"science:explore": {"epoch": "e1", "seq": 41}}


def test_empty_fields_of_a_registration_count_as_absent() -> None:
    registration = registration_from(
        dict.fromkeys(("client_id", "client_type", "room", "channel", "screen_name", "avatar", "since", "token"), "")
        | {"personality": None, "resume": None}
    )
    assert registration == Registration()


def test_a_resume_token_alone_and_a_ticket_are_taken_too() -> None:
    registration = registration_from({"client_id": "a", "resume_token": "r", "ticket": "t"})
    assert registration.resume == Resume(token="r")
    assert registration.token == "t"
    assert registration_from({"resume_token": 5}).resume is None


@pytest.mark.parametrize(
    ("given", "since"), [("41", 41), (0, 0), ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"), ("9" * 30, "9" * 30)]
)
def test_since_may_be_a_seq_as_text(given: Any, since: Any) -> None:
    assert registration_from({"since": given}).since == since
    assert seq_of(given) == since


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"client_id": "a b"}, "client_id"),
        ({"client_id": 5}, "client_id"),
        ({"client_id": "x" * 65}, "client_id"),
        ({"client_id": "arqonbus_server"}, "client_id"),
        ({"client_type": 5}, "client_type"),
        ({"client_type": "x" * 65}, "client_type"),
        ({"client_id": "a", "screen_name": "x" * 129}, "screen_name"),
        ({"client_id": "a", "screen_name": "a\x00b"}, "screen_name"),
        ({"client_id": "a", "avatar": ["x"]}, "avatar"),
        ({"client_id": "a", "room": 5}, "room"),
        ({"client_id": "a", "channel": {}}, "channel"),
        ({"client_id": "a", "token": 5}, "token"),
        ({"client_id": "a", "epoch": "x" * 5000}, "epoch"),
        ({"client_id": "a", "since": -1}, "since"),
        ({"client_id": "a", "since": True}, "since"),
        ({"client_id": "a", "since": 1.5}, "since"),
        ({"client_id": "a", "personality": "calm"}, "personality"),
        ({"client_id": "a", "card": "calm"}, "card"),
        ({"client_id": "a", "card": {"skills": ["x"] * 33}}, "card"),
        ({"client_id": "a", "card": {"name": "\x00"}}, "card"),
        ({"client_id": "a", "personality": {"a": ["b", {"c": "\x00"}]}}, "personality"),
        ({"client_id": "a", "personality": {"\x00": 1}}, "personality"),
        ({"client_id": "a", "resume": "r"}, "resume"),
        ({"client_id": "a", "resume": {"positions": {"a:b": 5}}}, "resume"),
        ({"client_id": "a", "resume": {"positions": {"a:b": {"seq": "5"}}}}, "resume"),
        ({"client_id": "a", "resume": {"positions": {"a:b": {"seq": -5}}}}, "resume"),
        ({"client_id": "a", "resume": {"positions": {"a:b": {"seq": True}}}}, "resume"),
        (b'{"client_id":"a","personality":1e999}', "personality"),
        (b'{"type":"register","payload":{"client_id":1e999}}', "payload"),
    ],
)
def test_a_wrong_field_of_a_registration_is_named(frame: Any, field: str) -> None:
    problem = refused(frame)
    assert problem.code == "VALIDATION_ERROR"
    assert field in fields(problem)


def test_the_query_string_is_held_to_the_same_rules() -> None:
    with pytest.raises(FrameError) as caught:
        registration_from({"client_id": "a b", "since": "-1", "avatar": "x" * 3000})
    assert fields(caught.value) == ["client_id", "avatar"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"null",
        b"5",
        b'"text"',
        b"[]",
        b"{",
        b'{"a":}',
        b'{"a":1}}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":01}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\x41"}',
        b'{"a":"\n"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"payload":{"a":"\xff"}}',
        b'{"\xff":1}',
        b'{"type":"\xc3"}',
        bytes(range(256)),
        b'{"a":' + b"[" * 1_000_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    problem = refused(data)
    assert problem.code == "INVALID_JSON"
    assert len(problem.message) < 300
    assert problem.request_id is None


@pytest.mark.parametrize("version", [b'"2.0"', b'"1"', b"1.0", b"1", b'""', b"[]", b"true"])
def test_only_version_1_0_is_spoken(version: bytes) -> None:
    problem = refused(b'{"id":"arq_9","type":"event","version":' + version + b"}")
    assert (problem.code, problem.request_id) == ("UNSUPPORTED_VERSION", "arq_9")


def test_a_version_of_null_is_none() -> None:
    assert read({"version": None, "type": "chess.move"}).type == "chess.move"


@pytest.mark.parametrize("type", ["chess.move", "ack", "welcome"])
def test_with_a_version_the_type_must_be_known(type: str) -> None:
    problem = refused(v1(type))
    assert (problem.code, problem.request_id) == ("UNKNOWN_TYPE", "arq_1")
    assert "telemetry" in problem.message


@pytest.mark.parametrize("type", [None, ""])
def test_with_a_version_the_type_must_be_there(type: Any) -> None:
    problem = refused({"version": "1.0", "id": "arq_1", "type": type, "payload": {}})
    assert fields(problem) == ["type"]
    assert fields(refused({"version": "1.0", "id": "arq_1"})) == ["type"]


@pytest.mark.parametrize("id", [None, "1", "ARQ_1", ""])
def test_with_a_version_the_id_begins_with_arq(id: Any) -> None:
    problem = refused({"version": "1.0", "id": id, "type": "event", "payload": {}})
    assert "id" in fields(problem)
    assert fields(refused({"version": "1.0", "type": "event"})) == ["id"]
    assert read({"version": "1.0", "type": "register"}).id is None


@pytest.mark.parametrize("type", ["ack", "error", "command_response"])
def test_the_servers_own_types_are_not_for_clients(type: str) -> None:
    assert fields(refused({"type": type, "message": "x"})) == ["type"]


@pytest.mark.parametrize(
    ("frame", "field"),
    [
        ({"type": 5}, "type"),
        ({"type": ["event"]}, "type"),
        ({"type": "x" * 65}, "type"),
        ({"type": "a\nb"}, "type"),
        ({"id": ["x"]}, "id"),
        ({"id": True}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "a\nb"}, "id"),
        ({"id": ""}, "id"),
        ({"room": 5}, "room"),
        ({"channel": ["c"]}, "channel"),
        ({"payload": "text"}, "payload"),
        ({"payload": []}, "payload"),
        ({"metadata": "text"}, "metadata"),
        ({"echo": "yes"}, "echo"),
        ({"ack": 1}, "ack"),
        ({"type": "private", "to": 5}, "to"),
        ({"type": "private", "to": {"a": 1}}, "to"),
        ({"type": "private", "to": ["a", 5]}, "to"),
        ({"type": "private", "to": ["a b"]}, "to"),
        ({"type": "private", "to": ""}, "to"),
        ({"type": "event", "to": ["bob"], "message": "meant for bob"}, "to"),
        ({"type": "command"}, "command"),
        ({"command": 5}, "command"),
        ({"command": "ping", "args": [1]}, "parameters"),
        (b'{"command":"ping","args":{"a":1e999}}', "parameters"),
        (b'{"command":"ping","limit":1e999}', "limit"),
        (b'{"command":"ping","payload":{"limit":1e999}}', "payload"),
        ({"eventType": "x"}, "payload"),
        ({"type": "telemetry", "payload": {}}, "eventType"),
        ({"eventType": 5, "payload": {}}, "eventType"),
        ({"eventType": "x" * 129, "payload": {}}, "eventType"),
        ({"eventType": "x", "payload": {}, "source": ["s"]}, "source"),
        ({"eventType": "x", "payload": {}, "timestamp": "yesterday"}, "timestamp"),
    ],
)
def test_a_wrong_field_is_named(frame: Any, field: str) -> None:
    problem = refused(frame)
    assert problem.code == "VALIDATION_ERROR"
    assert field in fields(problem)


def test_every_fault_of_a_frame_is_told_at_once() -> None:
    problem = refused({"id": "m1", "type": 5, "room": 5, "payload": "x", "echo": 1, "metadata": []})
    assert fields(problem) == ["type", "room", "echo", "payload", "metadata"]
    assert problem.request_id == "m1"


def test_a_socket_of_one_purpose_takes_its_own_types_only() -> None:
    only = frozenset({"telemetry", "register"})

    def narrow(frame: dict[str, Any]) -> Inbound:
        return normalise(decode_object(json.dumps(frame).encode()), only=only, default="telemetry")

    assert narrow({"payload": {"eventType": "x"}}).kind == KIND_TELEMETRY
    with pytest.raises(FrameError) as caught:
        narrow({"type": "event", "payload": {"eventType": "x"}})
    assert fields(caught.value) == ["type"]
    with pytest.raises(FrameError) as caught:
        narrow({"type": 5, "payload": {"eventType": "x"}})
    assert fields(caught.value) == ["type"]


@pytest.mark.parametrize(
    ("data", "request_id"),
    [(b'{"id":"m1","a":1}', "m1"), (b'{"a":1}', None), (b'{"id":[]}', None), (b"junk", None), (b"[" * 10_000, None)],
)
def test_a_refused_frames_id_is_found_where_it_can_be(data: bytes, request_id: str | None) -> None:
    assert request_id_of(data) == request_id


@pytest.mark.parametrize(
    ("frame", "token"),
    [({"token": "t"}, "t"), ({"ticket": "t"}, "t"), ({"token": 5}, None), ({"type": "event"}, None)],
)
def test_a_first_frame_may_bring_a_token(frame: Any, token: str | None) -> None:
    assert token_of(json.dumps(frame).encode()) == token


# --- any object at all ------------------------------------------------------------------------------------------------

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    sorted(
        set(dialects.KEY_ALIASES)
        | set(dialects.KEY_ALIASES.values())
        | {"version", "id", "type", "room", "channel", "payload", "metadata", "timestamp", "echo", "ack", "command"}
        | {"client_id", "client_type", "screen_name", "avatar", "personality", "token", "since", "epoch", "resume"}
        | {"source", "seq", "unknown", "", "\x00", 'quo"te'}
    )
)
LIKELY = st.sampled_from(
    ["1.0", "arq_1", "event", "private", "command", "telemetry", "register", "system", "pm", "science:explore"]
) | st.sampled_from(["*", "bob", "2025-01-01T00:00:00Z", "ping"])
OBJECTS = st.dictionaries(KEYS | st.text(max_size=8), LIKELY | JSON, max_size=10)


@given(OBJECTS)
@example({"type": "event", "payload": {"message": "\x00"}, 'quo"te': 1})
def test_any_object_is_a_frame_or_one_clear_error(frame: dict[str, Any]) -> None:
    inbound, problem = outcome(json.dumps(frame).encode())
    if problem is not None:
        assert json.loads(frames.error(problem))["error"]["code"] == problem.code
        assert problem.details or problem.code in ("INVALID_JSON", "UNSUPPORTED_VERSION", "UNKNOWN_TYPE")
        return
    assert inbound is not None
    if inbound.kind in (KIND_PUBLISH, KIND_PRIVATE, KIND_TELEMETRY):
        _assert_delivered_intact(frame, inbound)


def _assert_delivered_intact(frame: dict[str, Any], inbound: Inbound) -> None:
    """What came in is in the delivered frame, with the server's own id, sender and time."""
    head, tail = frames.message_head("arq_x", inbound.type, Address("a", "b"), "me"), frames.message_tail(inbound)
    text = frames.finish_message(head, tail, b"2026-01-01T00:00:00.000Z", 7)
    delivered = json.loads(text)
    assert msgspec.json.decode(text) == delivered
    assert (delivered["version"], delivered["id"], delivered["from"]) == ("1.0", "arq_x", "me")
    assert (delivered["room"], delivered["channel"], delivered["seq"]) == ("a", "b", 7)
    assert delivered["type"] == inbound.type
    if isinstance(frame.get("payload"), dict):
        assert delivered["payload"] == frame["payload"]
    if frame.get("message") is not None:
        assert delivered["message"] == frame["message"]
    known = dialects.KEY_ALIASES.keys() | dialects._ENVELOPE_KEYS | {"source"}
    for key, value in frame.items():
        if key not in known:
            assert delivered["metadata"][key] == value


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_one_clear_error(data: bytes) -> None:
    _, problem = outcome(data)
    assert problem is None or problem.number == 400


@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: json.dumps(text)[1:-1].encode()))
@example("\u00e4\u20ac".encode())
@example(b"\xe4")
def test_what_is_passed_on_is_always_utf_8(junk: bytes) -> None:
    data = b'{"payload":{"x":"' + junk + b'"},"message":"' + junk + b'","k":"' + junk + b'"}'
    inbound, problem = outcome(data)
    if inbound is None:
        assert problem is not None
        assert problem.code in ("INVALID_JSON", "VALIDATION_ERROR")
        return
    head, tail = frames.message_head("arq_x", inbound.type, Address("a", "b"), "me"), frames.message_tail(inbound)
    passed_on = json.loads(frames.finish_message(head, tail, b"now", 1).decode())
    said = json.loads(data.decode())
    assert (passed_on["payload"], passed_on["message"]) == (said["payload"], said["message"])


# --- the sender's own time --------------------------------------------------------------------------------------------


@given(st.characters(codec="utf-8"), st.sampled_from(["2026-01-01{}00:00:00", "20260101{}000000", "2026-W01-1{}00"]))
@example('"', "2026-01-01{}00:00:00")
@example("\\", "2026-01-01{}00:00:00")
def test_a_time_has_a_blank_or_a_t_between_its_halves(between: str, form: str) -> None:
    text = form.format(between)
    found = valid_time(text)
    assert found in (None, text)
    assert found == (text if between in "T " else None)
    inbound = read({"message": "x", "timestamp": text})
    head, tail = frames.message_head("arq_1", inbound.type, Address("a", "b"), "me"), frames.message_tail(inbound)
    assert json.loads(frames.finish_message(head, tail, b"now", 1)).get("client_timestamp") == found


def test_what_a_frame_is_worth_is_counted_by_its_copies_and_its_content() -> None:
    inbound = read({"type": "private", "to": ["a", "b"], "message": "x", "metadata": {"n": 1}})
    assert (copies_of(inbound), size_of(inbound)) == (2, len('{"message":"x"}"x"{"n": 1}'))
    assert (copies_of(read({"message": "x"})), size_of(read({}))) == (1, 0)
