"""Leased work over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from bus import services
from bus.api import waiting
from bus.auth.permissions import Actor
from bus.mcp.protocol import STATELESS
from bus.models import AccessToken, Channel, Room
from tests.harness.server import BusServer
from tests.mcp.conftest import request as tool_call
from tests.rest.conftest import CallAs, Rest

NEVER = {"claims": [], "ready": 0}


@pytest.fixture
def jobs(admin: Rest, fresh_room: str) -> str:
    """A work channel."""
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "new", "work": {"lease": 30, "attempts": 2}})
    return f"channels/{fresh_room}:new"


def put(rest: Rest, jobs: str, *texts: str, **keys: Any) -> None:
    for text in texts:
        rest.ok("POST", f"{jobs}/messages", {"message": text, **keys})


def claim(rest: Rest, jobs: str, status: int = 200, **body: Any) -> list[Any]:
    answer = rest.ok("POST", f"{jobs}/claims", body, status=status)
    claims: list[Any] = answer["claims"]
    return claims


def test_a_job_is_claimed_renewed_and_done_by_one_worker(alice: Rest, bob: Rest, jobs: str) -> None:
    put(alice, jobs, "one", "two")
    (mine,) = claim(alice, jobs)
    assert (mine["message"]["message"], mine["attempt"], mine["lease"], mine["hold"]) == ("one", 1, 30, 3600)
    (theirs,) = claim(bob, jobs, max=5)
    assert theirs["message"]["message"] == "two"
    assert claim(bob, jobs) == []
    path = f"claims/{mine['claim']}"
    assert alice.ok("POST", f"{path}/renew", status=200) == {"claim": mine["claim"], "lease": 30}
    for who, what in ((bob, "done"), (bob, "renew"), (bob, "release"), (bob, "reject")):
        assert who.error("POST", f"{path}/{what}", {})["code"] == "CLAIM_NOT_FOUND"
    done = {"claim": mine["claim"], "seq": 1, "state": "done", "replied": False}
    assert alice.ok("POST", f"{path}/done", {"result": {"sum": 3}}, status=200) == done
    assert alice.ok("POST", f"{path}/done", {"result": 4}, status=200) == done
    shown = alice.get(f"{jobs}/work")
    assert (shown["ready"], shown["claimed_count"], shown["claimed"][0]["seq"], shown["manage"]) == (0, 1, 2, False)


def test_a_job_goes_back_dies_and_is_retried_or_discarded(alice: Rest, admin: Rest, jobs: str) -> None:
    put(alice, jobs, "one")
    (first,) = claim(alice, jobs)
    back = alice.ok("POST", f"claims/{first['claim']}/release", {"error": "no disk"}, status=200)
    assert (back["state"], back["seq"]) == ("ready", 1)
    error = alice.error("POST", f"claims/{first['claim']}/done", {})
    assert (error["code"], error["details"][0]["why"]) == ("CLAIM_LOST", "expired")
    (second,) = claim(alice, jobs)
    assert alice.ok("POST", f"claims/{second['claim']}/reject", {"error": "never"}, status=200)["state"] == "dead"
    (dead,) = admin.get(f"{jobs}/work")["dead"]
    assert [failure["error"] for failure in dead["errors"]] == ["never"]
    assert alice.error("POST", f"{jobs}/work/1/retry")["code"] == "FORBIDDEN"
    assert admin.ok("POST", f"{jobs}/work/1/retry", status=200) == {"seq": 1, "state": "ready"}
    (third,) = claim(alice, jobs)
    assert admin.ok("POST", f"{jobs}/work/1/discard", status=200) == {"seq": 1, "state": "discarded"}
    error = alice.error("POST", f"claims/{third['claim']}/done", {})
    assert (error["code"], error["details"][0]["why"]) == ("CLAIM_LOST", "cancelled")
    assert admin.error("POST", f"{jobs}/work/9999999999999999999/discard")["code"] == "VALIDATION_ERROR"


async def test_a_claim_waits_for_the_next_job(alice: Rest, bob: Rest, jobs: str) -> None:
    waits = [asyncio.create_task(asyncio.to_thread(alice, "POST", f"{jobs}/claims?wait=20", {})) for _ in range(2)]
    await asyncio.to_thread(put, bob, jobs, "late", "later")
    texts = sorted([(await task).json()["claims"][0]["message"]["message"] for task in waits])
    assert texts == ["late", "later"]


def test_a_wait_in_vain_has_no_claims(alice: Rest, jobs: str) -> None:
    assert alice.ok("POST", f"{jobs}/claims?wait=0.2", {"max": 3}, status=200) == NEVER
    assert alice.ok("POST", f"{jobs}/claims", status=200) == NEVER


def test_a_worker_whose_answer_was_lost_asks_for_it_again(alice: Rest, jobs: str) -> None:
    put(alice, jobs, "one")
    (lost,) = claim(alice, jobs)
    assert [one["claim"] for one in claim(alice, jobs, have=[])] == [lost["claim"]]
    assert claim(alice, jobs, have=[lost["claim"]]) == []


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ({"max": 0}, ""), ({"max": 101}, ""), ({"max": "1"}, ""), ({"max": True}, ""), ({"max": 1.5}, ""), ({"most": 1}, ""),
        ({"have": "x"}, ""), ({"have": [1]}, ""), ({"have": ["x" * 65]}, ""), ({"have": ["x"] * 1001}, ""), ([], ""), ("no", ""),
        ({}, "?wait=26"), ({}, "?wait=-1"), ({}, "?wait=nan"), ({}, "?wait=x"),
    ],
)  # fmt: skip
def test_a_wrong_claim_is_refused(alice: Rest, jobs: str, body: Any, query: str) -> None:
    answer = alice("POST", f"{jobs}/claims{query}", body)
    assert (answer.status_code, body == [] and answer.json() == NEVER) in ((400, False), (200, True)), answer.text


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("release", {"delay": -1}), ("release", {"delay": "5"}), ("release", {"delay": True}), ("release", {"delay": 1e12}),
        ("release", {"error": 5}), ("release", {"error": "x" * 2001}), ("reject", {"delay": 1}), ("done", {"answer": 1}),
        ("renew", {"lease": 100}),
    ],
)  # fmt: skip
def test_a_wrong_end_is_refused(alice: Rest, what: str, body: Any) -> None:
    assert alice.error("POST", f"claims/arq_clm_1_1_0123456789abcdef/{what}", body)["code"] == "VALIDATION_ERROR"


def test_a_large_result_is_refused_and_the_job_stays(alice: Rest, jobs: str) -> None:
    put(alice, jobs, "one")
    (mine,) = claim(alice, jobs)
    path = f"claims/{mine['claim']}/done"
    assert alice.error("POST", path, {"result": "x" * 140_000})["code"] == "FRAME_TOO_LARGE"
    assert alice.ok("POST", path, {"result": "x" * 1000}, status=200)["state"] == "done"


def test_hidden_and_plain_channels_have_no_work(
    alice: Rest, admin: Rest, anonymous: Rest, fresh_room: str, jobs: str
) -> None:
    admin.ok("POST", "channels", {"room": fresh_room, "channel": "plain"})
    admin.ok("PATCH", f"rooms/{fresh_room}", {"private": True}, status=200)
    missing = f"channels/{fresh_room}x:new"
    for rest in (alice, anonymous):
        for path in (jobs, missing):
            for method, what in (("POST", "claims"), ("GET", "work")):
                assert rest.error(method, f"{path}/{what}")["code"] == "CHANNEL_NOT_FOUND"
            assert rest.error("POST", f"{path}/work/1/retry")["code"] == "FORBIDDEN"
    plain = f"channels/{fresh_room}:plain"
    for method, what in (("POST", "claims"), ("GET", "work"), ("POST", "work/1/retry")):
        error = admin.error(method, f"{plain}/{what}")
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "channel")


@pytest.mark.parametrize(
    "rule",
    [
        {"lease": 0}, {"lease": "x"}, {"lease": 90_000}, {"attempts": 0}, {"attempts": 1.5}, {"hold": 1}, {"hold": 1e9},
        {"dead": "nowhere"}, {"dead": "a:*"}, {"dead": 5}, {"unknown": 1}, [], "work", 5,
    ],
)  # fmt: skip
def test_a_wrong_rule_is_refused(admin: Rest, fresh_room: str, rule: Any) -> None:
    body = {"room": fresh_room, "channel": "new", "work": rule}
    error = admin.error("POST", "channels", body)
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "work")
    assert admin.error("GET", f"channels/{fresh_room}:new")["code"] == "CHANNEL_NOT_FOUND"


def test_a_rule_is_changed_and_shown(admin: Rest, alice: Rest, fresh_room: str, jobs: str) -> None:
    rule = {"lease": 60, "attempts": 5, "hold": 3600, "dead": f"{fresh_room}:dead"}
    changed = admin.ok("PATCH", jobs, {"work": {"lease": 60, "dead": f"{fresh_room}:dead"}}, status=200)
    assert changed["metadata"]["work"] == rule
    rows = {row["channel"]: row.get("work") for row in alice.get("channels", room=fresh_room)["results"]}
    assert rows == {"new": rule, "dead": None}
    assert admin.error("PATCH", jobs, {"ephemeral": True})["details"][0]["field"] == "work"
    put(alice, jobs, "one")
    assert admin.error("PATCH", jobs, {"work": None})["details"][0]["field"] == "work"
    (mine,) = claim(alice, jobs)
    alice.ok("POST", f"claims/{mine['claim']}/done", status=200)
    assert "work" not in admin.ok("PATCH", jobs, {"work": None}, status=200)["metadata"]


def test_jobs_may_be_due_later(alice: Rest, jobs: str) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    put(alice, jobs, "later", deliver_at=later)
    put(alice, jobs, "now")
    assert [one["message"]["message"] for one in claim(alice, jobs, max=2)] == ["now"]
    assert alice.get(f"{jobs}/work")["delayed"] == 1
    error = alice.error("POST", f"{jobs}/messages", {"message": "x", "deliver_at": "tomorrow"})
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "deliver_at")


def test_a_name_of_its_own_names_the_worker(alice: Rest, bob: Rest, admin: Rest, jobs: str, fresh_room: str) -> None:
    put(alice, jobs, "one")
    name = f"{fresh_room}-worker"
    (mine,) = alice.ok("POST", f"{jobs}/claims?client_id={name}", {}, status=200)["claims"]
    assert admin.get(f"{jobs}/work")["claimed"][0]["by"] == name
    assert bob.error("POST", f"{jobs}/claims?client_id={name}", {})["code"] == "CLIENT_ID_IN_USE"
    # The principal may end its job under any of its ids.
    assert alice.ok("POST", f"claims/{mine['claim']}/done", status=200)["state"] == "done"


def test_an_anonymous_worker_may_work_too(
    anonymous: Rest, admin: Rest, jobs: str, call_as: CallAs, shared_server: BusServer
) -> None:
    put(admin, jobs, "one")
    (mine,) = claim(anonymous, jobs)
    assert call_as(shared_server).ok("POST", f"claims/{mine['claim']}/done", status=200)["state"] == "done"


def over_rest(secret: str) -> Any:
    """The answer to a claim that waits, in a process without the application of the bus."""
    path = "/api/v1/channels/jobs:new/claims?wait=5&client_id=worker"
    headers = {"Authorization": f"Bearer {secret}"}
    return Client().post(path, {"have": []}, content_type="application/json", headers=headers).json()


def over_mcp(secret: str) -> Any:
    """The same of a tool."""
    call = tool_call("tools/call", name="claim", arguments={"address": "jobs:new", "timeout_seconds": 5, "have": []})
    headers = {
        "Authorization": f"Bearer {secret}", "Accept": "application/json", "Arqonbus-Client-Id": "worker",
        "MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": "claim",
    }  # fmt: skip
    answer = Client().post("/mcp", call, content_type="application/json", headers=headers)
    return answer.json()["result"]["structuredContent"]


@pytest.mark.embedded
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("claimed_over", [over_rest, over_mcp])
def test_what_another_request_got_during_a_wait_is_not_given_again(
    claimed_over: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.ARQONBUS = {"client_ids_per_principal": 1}
    Channel.objects.create(room=Room.objects.create(name="jobs"), name="new", work={"lease": 30.0})
    token, secret = AccessToken.issue("worker")
    worker = Actor(principal=f"token:{token.pk}", client_id="worker")

    def poll(look: waiting.Look, seconds: float) -> waiting.Answer | None:
        services.publish("jobs:new", {})
        assert len(services.claim_jobs("jobs:new", actor=worker).claims) == 1
        return look()

    monkeypatch.setattr(waiting, "poll", poll)
    assert claimed_over(secret) == NEVER
