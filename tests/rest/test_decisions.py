"""Decisions over REST: asked, waited for, decided, used and withdrawn by callers without a socket."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.rest.conftest import Rest

# What depends on the database is tested on both in tests/services and tests/reliability.
pytestmark = pytest.mark.embedded

QUESTION: dict[str, Any] = {"key": "k", "title": "Refund 20?", "action": "refund", "args": {"amount": 20}}


def test_a_caller_waits_for_the_answer_and_uses_it_once(alice: Rest, admin: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:desk/decisions"
    asked = alice.ok("POST", path, QUESTION)
    one = f"decisions/{asked['decision']}"
    assert (asked["state"], asked["may_decide"]) == ("pending", False)
    assert alice.ok("POST", path, QUESTION, status=200)["decision"] == asked["decision"]
    assert alice.ok("GET", one, status=202, params={"wait": "0.1"})["state"] == "pending"
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(alice.get(one, wait=20)))
    waiting.start()
    (listed,) = admin.get("decisions", address=f"{fresh_room}:desk", to_decide="true")["results"]
    assert (listed["decision"], listed["may_decide"]) == (asked["decision"], True)
    made = admin.ok("POST", f"{one}/decide", {"answer": "approve", "comment": "fine"}, status=200)
    waiting.join(timeout=30)
    assert [found["state"] for found in got] == [made["state"]] == ["approved"]
    assert alice.error("POST", f"{one}/decide", {"answer": "reject"})["code"] == "FORBIDDEN"
    assert alice.ok("POST", f"{one}/consume", status=200)["consumed_at"]
    assert alice.error("POST", f"{one}/consume")["code"] == "ALREADY_USED"
    assert alice.error("POST", f"{one}/cancel")["code"] == "DECISION_ENDED"


def test_pages_and_refusals(alice: Rest, bob: Rest, fresh_room: str) -> None:
    path = f"channels/{fresh_room}:desk/decisions"
    uids = [alice.ok("POST", path, {**QUESTION, "key": f"k{n}"})["decision"] for n in range(3)]
    page = alice.get("decisions", room=fresh_room, mine="true", limit=2)
    rest = alice.client.get(page["next"]).json()
    assert [row["decision"] for row in page["results"] + rest["results"]] == uids[::-1]
    assert rest["next"] is None
    assert bob.get("decisions", room=fresh_room, mine="true")["results"] == []
    assert bob.error("POST", f"decisions/{uids[0]}/decide", {"answer": "approve"})["code"] == "FORBIDDEN"
    assert bob.error("POST", f"decisions/{uids[0]}/cancel")["code"] == "FORBIDDEN"
    assert alice.ok("POST", f"decisions/{uids[0]}/cancel", status=200)["state"] == "cancelled"
    assert bob.error("GET", "decisions/arq_dec_0")["code"] == "DECISION_NOT_FOUND"
    for body, field in (
        ({**QUESTION, "allow": ["perhaps"]}, "allow"),
        ({**QUESTION, "expires": 0}, "expires"),
        ({**QUESTION, "args": [1]}, "args"),
        ({**QUESTION, "schema": {"pattern": "(a+)+$"}}, "schema"),
        ({**QUESTION, "more": 1}, "more"),
        ({"key": "k"}, "title"),
    ):
        error = alice.error("POST", path, body)
        assert error["code"] == "VALIDATION_ERROR"
        assert field in {fault["field"].partition(".")[0] for fault in error["details"]}, error
