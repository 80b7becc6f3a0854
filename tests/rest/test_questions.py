"""Questions over REST: asked, answered and waited for, by callers without a socket."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.conftest import Connect
from tests.harness.client import new_id
from tests.harness.server import BusServer
from tests.rest.conftest import Rest

# What depends on the database is tested on both in tests/wire and tests/log.
pytestmark = pytest.mark.embedded


@pytest.fixture
def adder(bob: Rest, alice: Rest) -> str:
    """Bob's client id, known to the bus."""
    me: str = bob.get("me")["name"]
    bob.ok("POST", "messages", {"type": "private", "to": [me], "message": "here"}, status=201)
    return me


def answers(rest: Rest, ask: str, **body: Any) -> Any:
    return rest.ok("POST", f"asks/{ask}/reply", {"payload": {"sum": 3}, **body})


def test_a_question_is_asked_waited_for_and_answered(alice: Rest, bob: Rest, adder: str) -> None:
    body = {"to": adder, "durable": True, "timeout": 60, "id": new_id(), "correlation": "c1", "payload": {"a": 1}}
    asked = alice.ok("POST", "ask", body, status=202)
    of = asked["ask"]
    assert asked == {"ask": of, "state": "open", "to": adder, "correlation": "c1"}
    assert alice.ok("GET", f"asks/{of}", status=202, params={"wait": "0.1"}) == asked
    [question] = bob.get(f"channels/pm:{adder}/messages", order="desc", limit=1)["results"]
    assert (question["id"], question["ask"], question["correlation"]) == (of, {"timeout": 60, "durable": True}, "c1")

    answers(bob, of, id="r1")
    assert bob.ok("POST", f"asks/{of}/reply", {"payload": {"sum": 3}, "id": "r1"}, status=200)["duplicate"] is True
    answered = alice.get(f"asks/{of}")
    assert (answered["state"], answered["message"]["payload"]) == ("answered", {"sum": 3})
    assert alice.ok("POST", "ask", body, status=200, params={"wait": "20"}) == answered
    assert bob.error("POST", f"asks/{of}/reply", {"payload": {}})["code"] == "QUESTION_ENDED"


def test_who_waits_is_woken_by_the_answer(alice: Rest, bob: Rest, adder: str) -> None:
    of = alice.ok("POST", "ask", {"to": adder, "durable": True, "payload": {}}, status=202)["ask"]
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(alice.get(f"asks/{of}", wait=20)))
    waiting.start()
    answers(bob, of)
    waiting.join(timeout=30)
    assert [found["message"]["payload"] for found in got] == [{"sum": 3}]


async def test_a_socket_answers_a_caller(shared_server: BusServer, alice: Rest, wire: Connect, fresh_room: str) -> None:
    client = await wire(shared_server, client_id=fresh_room)
    got: list[Any] = []

    def ask() -> None:
        got.append(alice.ok("POST", "ask", {"to": fresh_room, "payload": {"a": 1}}, status=200, params={"wait": "20"}))

    asking = threading.Thread(target=ask)
    asking.start()
    question = await client.expect(type="private")
    await client.publish(ack=True, type="reply", to_message=question["id"], error="No.")
    while asking.is_alive():
        await client.ping()
    assert [(found["state"], found["message"]["error"]) for found in got] == [("answered", "No.")]


def test_nobody_there_and_nobody_in_time(alice: Rest, adder: str) -> None:
    for body in ({"to": adder, "payload": {}}, {"to": "nobody-ever", "payload": {}, "durable": True}):
        error = alice.error("POST", "ask", body)
        assert (error["code"], error["details"]) == ("NO_RESPONDER", [{"to": body["to"]}])
    body = {"to": adder, "durable": True, "timeout": 0.1, "id": new_id(), "payload": {}}
    error = alice.error("POST", "ask", body, params={"wait": "20"})
    assert (error["code"], error["number"], error["details"][0]["to"]) == ("ASK_TIMEOUT", 504, adder)
    assert error["message"].startswith(f"{adder} did not answer within ")
    of = error["details"][0]["message"]
    assert alice.error("GET", f"asks/{of}")["code"] == "ASK_TIMEOUT"
    assert alice.error("POST", "ask", body)["code"] == "ASK_TIMEOUT"


def test_a_question_is_its_askers_and_its_responders_own(alice: Rest, bob: Rest, anonymous: Rest, adder: str) -> None:
    of = alice.ok("POST", "ask", {"to": adder, "durable": True, "payload": {}}, status=202)["ask"]
    for rest in (bob, anonymous):
        assert rest.error("GET", f"asks/{of}")["code"] == "QUESTION_NOT_FOUND"
    for rest in (alice, anonymous):
        assert rest.error("POST", f"asks/{of}/reply", {"payload": {}})["code"] == "QUESTION_NOT_FOUND"
    assert bob.error("POST", "asks/arq_nothing/reply", {})["code"] == "QUESTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": {}}, "to"),
        ({"to": "x", "address": "a:b"}, "to"),
        ({"to": ["x", "y"]}, "ask"),
        ({"to": 5}, "to"),
        ({"to": "x", "timeout": 0}, "ask"),
        ({"to": "x", "timeout": "soon"}, "ask"),
        ({"to": "x", "ask": {}}, "ask"),
        ({"to": "x", "payload": 5}, "payload"),
        ({"address": "nowhere:at-all"}, "ask"),
    ],
)
def test_a_wrong_body_is_refused(alice: Rest, body: dict[str, Any], field: str) -> None:
    error = alice.error("POST", "ask", body)
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", field)


def test_a_wrong_wait_and_a_wrong_reply_are_refused(alice: Rest, bob: Rest, adder: str) -> None:
    assert alice.error("POST", "ask", {"to": adder}, params={"wait": "26"})["details"][0]["field"] == "wait"
    of = alice.ok("POST", "ask", {"to": adder, "durable": True, "payload": {}}, status=202)["ask"]
    for body, field in (({"error": 5}, "error"), ({"sum": 3}, "sum"), ({"reply_to": "a b"}, "reply_to")):
        error = bob.error("POST", f"asks/{of}/reply", body)
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", field)
