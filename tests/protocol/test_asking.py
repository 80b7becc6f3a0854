"""Questions and replies: what is read from their frames, what is refused, and the keys that they are delivered with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bus.protocol import asking
from bus.protocol.dialects import read_closely
from bus.protocol.errors import ErrorCode
from bus.protocol.faults import FrameError
from bus.protocol.inbound import KIND_PRIVATE, KIND_PUBLISH, KIND_REPLY, KIND_TELEMETRY, Ask, Inbound, Reply

pytestmark = pytest.mark.pure


def read(**keys: Any) -> Inbound:
    return read_closely(json.dumps(keys).encode())


def question(**keys: Any) -> Inbound:
    """A question to adder, with other keys in its place."""
    return read(**{"type": "private", "id": "q1", "to": ["adder"], "ask": {"timeout": 20}, "payload": {"a": 1}, **keys})


def reply(**keys: Any) -> Inbound:
    """A reply to the question arq_q1, with other keys in its place."""
    return read(**{"type": "reply", "id": "r1", "to_message": "arq_q1", "payload": {"sum": 3}, **keys})


def faults(found: Any, **keys: Any) -> dict[str, str]:
    """The faults of a refused frame, by field."""
    with pytest.raises(FrameError) as caught:
        found(**keys)
    assert caught.value.code == ErrorCode.VALIDATION_ERROR
    assert caught.value.request_id == keys.get("id", caught.value.request_id)
    return {fault["field"]: fault["message"] for fault in caught.value.details}


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        ({"timeout": 20}, Ask(20.0)),
        ({"timeout": 0.1, "durable": True, "correlation": "c-7"}, Ask(0.1, durable=True, correlation="c-7")),
        ({"timeout": None, "durable": None, "correlation": None}, Ask(30.0)),
        ({"correlation": "x" * 160}, Ask(30.0, correlation="x" * 160)),
        ({}, Ask(30.0)),
    ],
)
def test_an_object_under_ask_makes_a_question(ask: dict[str, Any], wanted: Ask) -> None:
    found = question(ask=ask)
    assert (found.kind, found.ask, found.metadata, found.to) == (KIND_PRIVATE, wanted, None, ["adder"])


@pytest.mark.parametrize("ask", [True, None, 20, "please", [{"timeout": 1}]])
def test_any_other_value_is_the_senders_own_key(ask: Any) -> None:
    found = question(ask=ask)
    assert found.ask is None
    assert json.loads(found.metadata or b"") == {"ask": ask}


@pytest.mark.parametrize(
    "ask",
    [
        {"timeout": 0.09}, {"timeout": -1}, {"timeout": "20"}, {"timeout": True}, {"timeout": 10**30}, {"durable": 1},
        {"durable": "yes"}, {"correlation": ""}, {"correlation": "x" * 161}, {"correlation": "a\nb"}, {"correlation": 7},
        {"timeout": 5, "to": "adder"},
    ],
)  # fmt: skip
def test_a_wrong_ask_is_told_as_one_fault(ask: dict[str, Any]) -> None:
    assert set(faults(question, ask=ask)) == {"ask"}


def test_a_question_has_one_target_and_is_no_stream() -> None:
    assert "one target" in faults(question, to=["adder", "other"])["ask"]
    assert "stream" in faults(question, stream={})["ask"]
    assert "stream" in faults(question, steer="arq_s1")["ask"]
    assert question(type="event", to=None, channel="pm:adder").kind == KIND_PUBLISH


def test_commands_and_telemetry_ask_nothing() -> None:
    told = read(eventType="x", payload={}, ask={"timeout": 1})
    assert (told.kind, told.ask) == (KIND_TELEMETRY, None)
    assert read(command="ping", ask={"timeout": 1}).ask is None


def test_a_reply_names_its_question() -> None:
    found = reply()
    assert (found.kind, found.type, found.id) == (KIND_REPLY, "reply", "r1")
    assert found.reply == Reply("arq_q1")
    assert (found.payload, found.metadata) == (b'{"sum": 3}', None)
    assert reply(version="1.0", id="arq_r").reply == Reply("arq_q1")
    assert reply(payload=None, message="three").payload == b'{"message":"three"}'


def test_a_reply_may_say_its_asker_and_an_error() -> None:
    found = reply(reply_to="ann", error="No such number.", payload=None, ack=True, own=1)
    assert found.reply == Reply("arq_q1", "ann", "No such number.")
    assert (found.payload, found.ack, found.metadata) == (None, True, b'{"own":1}')


def test_what_a_reply_repeats_of_its_question_is_left_out() -> None:
    """A responder may send back what it got. The server knows these values itself, and where the reply goes."""
    found = reply(correlation="c", ask={"timeout": 1}, reply_to=None, error=None, to=["x"], room=5, channel="*")
    assert found.reply == Reply("arq_q1")
    assert (found.metadata, found.to, found.room, found.channel, found.ask) == (None, [], None, None, None)


@pytest.mark.parametrize(
    ("keys", "field"),
    [
        ({"to_message": ""}, "to_message"),
        ({"to_message": "x" * 161}, "to_message"),
        ({"to_message": "a\nb"}, "to_message"),
        ({"reply_to": 5}, "reply_to"),
        ({"reply_to": "no one"}, "reply_to"),
        ({"error": ""}, "error"),
        ({"error": "x" * 2001}, "error"),
        ({"error": {"code": 5}}, "error"),
        ({"payload": 5}, "payload"),
    ],
)
def test_a_wrong_reply_is_refused(keys: dict[str, Any], field: str) -> None:
    assert set(faults(reply, **keys)) == {field}


@pytest.mark.parametrize("to_message", [None, 5, ["arq_q1"]])
def test_a_reply_without_a_question_is_an_event_of_that_type(to_message: Any) -> None:
    found = reply(to_message=to_message, channel="a:b")
    assert (found.kind, found.type, found.reply) == (KIND_PUBLISH, "reply", None)
    assert json.loads(found.metadata or b"") == {"to_message": to_message}
    with pytest.raises(FrameError, match="UNKNOWN_TYPE"):
        reply(to_message=to_message, version="1.0", id="arq_r")


def test_the_keys_of_a_delivered_question() -> None:
    keys = asking.question_keys(Ask(20.0), "ann", "q1")
    assert keys == b',"ask":{"timeout":20,"durable":false},"reply_to":"ann","correlation":"q1"'
    keys = asking.question_keys(Ask(0.5, durable=True), "ann", 'a"b')
    assert json.loads(b"{" + keys[1:] + b"}") == {
        "ask": {"timeout": 0.5, "durable": True}, "reply_to": "ann", "correlation": 'a"b',
    }  # fmt: skip


def test_the_keys_of_a_delivered_reply() -> None:
    assert asking.reply_keys("arq_q1", "q1", None) == b',"to_message":"arq_q1","correlation":"q1"'
    keys = asking.reply_keys("arq_q1", "q1", "No.\n")
    assert json.loads(b"{" + keys[1:] + b"}")["error"] == "No.\n"


@pytest.mark.parametrize(
    ("result", "payload"),
    [(None, b'{"result":null}'), (b'{"x":1}', b'{"x":1}'), (b"[1]", b'{"result":[1]}'), (b"3", b'{"result":3}')],
)
def test_the_result_of_a_job_as_a_payload(result: bytes | None, payload: bytes) -> None:
    assert asking.result_payload(result) == payload


def test_a_delivered_reply_names_the_question_that_it_answers() -> None:
    head = b'{"type":"reply"' + asking.reply_keys("arq_\u00fc", "c", None)
    assert asking.answered(head + b',"payload":{"to_message":"arq_q2"}}') == "arq_\u00fc"
    others = (
        b'{"type":"event","to_message":"arq_q1"}',
        b'{"type":"reply","payload":{"to_message":"arq_q1"}}',
        b'{"type":"reply","to_message":["arq_q1"]}',
        b"",
        b'{"a":' + b"[" * 100_000,
    )
    assert [asking.answered(frame) for frame in others] == [None] * len(others)
