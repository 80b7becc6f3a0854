"""Who may call the REST API, how it is told what went wrong, and how much it may ask."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.contrib.auth import get_user_model
from django.test import Client as Browser

from bus.auth.permissions import SYSTEM
from bus.models import AccessToken
from bus.services.seed import seed_hardcoded
from bus.services.tokens import create as create_token
from tests.conftest import Connect, StartServer
from tests.harness.backends import Storage
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until
from tests.rest.conftest import CallAs, Rest


def test_without_credentials_nobody_comes_in_where_the_setting_says_so(
    start_server: StartServer, call_as: CallAs
) -> None:
    server = start_server(env={"ARQONBUS_ANONYMOUS": "0", "ARQONBUS_RATE_LIMIT": "2", "ARQONBUS_RATE_BURST": "6"})
    stranger, known = call_as(server), call_as(server, server.create_token("known"))
    for method, path in [
        ("GET", "rooms"),
        ("GET", "me"),
        ("POST", "messages"),
        ("GET", "channels/science:explore/events"),
    ]:
        answer = stranger(method, path, {} if method == "POST" else None)
        assert answer.json()["error"]["code"] == "UNAUTHENTICATED"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert stranger.client.get(f"{server.http_url}/api/openapi.json").status_code == 200
    assert known.get("me")["role"] == "user"
    wrong = [
        call_as(server, "arq_tok_wrong").error("GET", "me"),
        stranger.error("GET", "me", headers={"Authorization": "Basic eDp5"}),
        stranger.error("GET", "me", headers={"Authorization": "Bearer"}),
    ]
    assert {error["code"] for error in wrong} == {"UNAUTHENTICATED"}
    # Five more tokens are in the bucket: a batch takes one for each of its messages.
    batch = {"messages": [{"message": "x"}] * 4}
    known.ok("POST", "channels/science:explore/messages", batch)
    limited = known("POST", "channels/science:explore/messages", batch)
    assert limited.json()["error"]["code"] == "RATE_LIMITED"
    assert int(limited.headers["Retry-After"]) >= 1
    assert limited.json()["error"]["retry_after"] > 0


@pytest.fixture
def user(db: None) -> Any:
    """A user of the site who is no admin."""
    seed_hardcoded()
    return get_user_model().objects.create_user("alice", "", "a long enough pass phrase")


def test_a_session_reads_and_writes_only_with_the_csrf_token(user: Any) -> None:
    browser = Browser(enforce_csrf_checks=True)
    browser.force_login(user)
    assert browser.get("/api/v1/me").json()["user"] == "alice"
    body = {"message": "x"}
    path = "/api/v1/channels/science:explore/messages"
    refused = browser.post(path, body, content_type="application/json")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"].startswith("CSRF")
    browser.get("/admin/login/")
    script = browser.get("/api/docs/?script=").content
    found = re.search(rb'"X-CSRFTOKEN"\] = "(\w+)"', script)
    assert found is not None
    accepted = browser.post(path, body, content_type="application/json", headers={"X-CSRFToken": found[1].decode()})
    assert accepted.status_code == 201
    assert browser.get(path).json()["results"][0]["from"] == "alice"
    user.is_active = False
    user.save()
    assert browser.get("/api/v1/me").json()["error"]["code"] == "UNAUTHENTICATED"


def test_tokens_of_ones_own_are_made_shown_once_and_revoked(user: Any) -> None:
    browser = Browser()
    browser.force_login(user)
    other, _ = create_token(SYSTEM, "of somebody else", door="command")
    made = browser.post("/api/v1/tokens", {"name": "script", "scopes": ["publish"]}, content_type="application/json")
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    secret = made.json()["secret"]
    bearer = {"Authorization": f"Bearer {secret}"}
    script = Browser()
    assert script.get("/api/v1/me", headers=bearer).json()["scopes"] == ["publish"]
    assert script.get("/api/v1/channels/science:explore/messages", headers=bearer).status_code == 403
    # What is good for publishing only gives out no more than that.
    for scopes in ([], ["join"]):
        more = {"name": "more", "scopes": scopes}
        assert script.post("/api/v1/tokens", more, content_type="application/json", headers=bearer).status_code == 403
    listed = browser.get("/api/v1/tokens").json()["results"]
    assert [row["name"] for row in listed] == ["script"]
    assert "secret" not in listed[0]
    assert AccessToken.objects.get(pk=listed[0]["id"]).digest not in json.dumps(listed)
    assert browser.delete(f"/api/v1/tokens/{other.pk}").json()["error"]["code"] == "NOT_FOUND"
    assert browser.delete(f"/api/v1/tokens/{listed[0]['id']}").status_code == 204
    assert script.get("/api/v1/me", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    "call",
    [
        lambda rest: rest.error("GET", "grants"),
        lambda rest: rest.error("POST", "grants", {"subject": "everyone", "action": "*", "pattern": "*"}),
        lambda rest: rest.error("PATCH", "grants/1", {"allow": False}),
        lambda rest: rest.error("DELETE", "grants/1"),
        lambda rest: rest.error("GET", "audit"),
        lambda rest: rest.error("GET", "nodes"),
        lambda rest: rest.error("POST", "rooms", {"room": "mine"}),
        lambda rest: rest.error("PATCH", "rooms/science", {"private": True}),
        lambda rest: rest.error("DELETE", "rooms/science"),
        lambda rest: rest.error("PATCH", "channels/science:explore", {"ephemeral": True}),
        lambda rest: rest.error("POST", "clients/somebody/disconnect", {}),
        lambda rest: rest.error("POST", "messages", {"room": "*", "message": "x"}),
    ],
)
def test_what_is_for_admins_is_for_admins(alice: Rest, anonymous: Rest, call: Callable[[Rest], Any]) -> None:
    for caller in (alice, anonymous):
        assert call(caller)["code"] == "FORBIDDEN"


def test_grants_are_listed_changed_and_checked(admin: Rest, fresh_room: str) -> None:
    rule = {"subject": "client_type", "subject_name": fresh_room, "action": "publish", "pattern": f"{fresh_room}:*"}
    made = admin.ok("POST", "grants", rule)
    assert {key: made[key] for key in rule} == rule
    assert made["allow"] is True
    assert admin.get(f"grants/{made['id']}") == made
    changed = admin.ok("PATCH", f"grants/{made['id']}", {"allow": False, "pattern": "*"}, 200)
    assert (changed["allow"], changed["pattern"]) == (False, "*")
    assert admin.get("grants", subject_name=fresh_room, allow="false")["results"] == [changed]
    wrong = admin.error("POST", "grants", {**rule, "subject_name": "", "pattern": "a b:c"})
    assert {fault["field"] for fault in wrong["details"]} == {"subject_name", "pattern"}
    admin.ok("DELETE", f"grants/{made['id']}", status=204)
    assert admin.error("GET", f"grants/{made['id']}")["code"] == "NOT_FOUND"
    actions = [row["action"] for row in admin.get("audit", target=fresh_room)["results"]]
    assert actions == ["delete_grant", "update_grant", "create_grant"]


async def test_clients_are_listed_found_and_sent_away(
    admin: Rest, alice: Rest, wire: Connect, shared_server: BusServer, fresh_room: str
) -> None:
    first = await wire(shared_server, client_id=f"{fresh_room}-1", client_type=fresh_room, room=f"{fresh_room}:a")
    await wire(shared_server, client_id=f"{fresh_room}-2", client_type=fresh_room, room=f"{fresh_room}:b")
    pages = alice.pages("clients", type=fresh_room, limit=1)
    assert [[row["client_id"] for row in page] for page in pages] == [[f"{fresh_room}-1"], [f"{fresh_room}-2"]]
    assert [row["client_id"] for row in alice.get("clients", channel=f"{fresh_room}:b")["results"]] == [
        f"{fresh_room}-2"
    ]
    assert alice.get(f"clients/{fresh_room}-1")["channels"] == [f"{fresh_room}:a"]
    assert alice.error("GET", "clients/nobody-here")["code"] == "CLIENT_NOT_FOUND"
    admin.ok("POST", f"clients/{fresh_room}-1/disconnect", {"reason": "bye"}, 204)
    assert (await first.expect("error"))["error"]["message"] == "bye"
    assert await first.wait_closed() == 4403
    assert admin.error("POST", "clients/nobody-here/disconnect", {})["code"] == "CLIENT_NOT_FOUND"
    assert admin.get("nodes")["results"][0]["alive"] is True
    stats = alice.get("stats")["stats"]
    assert stats["active_connections"] >= 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_unknown_addresses_and_methods_answer_in_the_form_of_all_errors(anonymous: Rest, method: str) -> None:
    assert anonymous.error(method, "nothing")["code"] == "NOT_FOUND"
    assert anonymous.error(method, "../v2/rooms")["code"] == "NOT_FOUND"
    if method not in ("GET", "POST"):
        answer = anonymous(method, "rooms")
        assert answer.json()["error"]["code"] == "METHOD_NOT_ALLOWED"
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    refused = anonymous.error("GET", "rooms", headers={"Accept": "application/xml;q=1"})
    assert refused["code"] == "NOT_ACCEPTABLE"


@pytest.mark.cluster
async def test_sockets_and_requests_share_few_database_connections(start_server: StartServer, wire: Connect) -> None:
    server = start_server("daphne")
    storage = server.storage
    assert storage.postgres is not None
    assert storage.database is not None
    postgres, database = storage.postgres, storage.database

    def connections() -> int:
        return postgres.connection_count(database)

    await asyncio.gather(*(wire(server, room="science:explore") for _ in range(200)))
    most = 0
    async with httpx.AsyncClient(base_url=f"{server.http_url}/api/v1/", timeout=60, trust_env=False) as client:
        paths = ["rooms", "channels", "clients?limit=10", "channels/science:explore/messages", "stats"]
        answers = [asyncio.create_task(client.get(paths[n % len(paths)])) for n in range(60)]
        while not all(answer.done() for answer in answers):
            most = max(most, await asyncio.to_thread(connections))
            await asyncio.wait(answers, timeout=0.05)
        statuses = {answer.result().status_code for answer in answers}
    most = max(most, connections())
    assert statuses == {200}
    # The default of DATABASE_POOL.
    assert 1 <= most <= 12


def test_refusals_are_one_line_each_with_the_code_and_never_what_was_sent(
    anonymous: Rest, shared_server: BusServer, fresh_room: str
) -> None:
    anonymous.error("GET", f"channels/{fresh_room}:a")
    anonymous.error("POST", f"nothing-{fresh_room}", {"message": f"{fresh_room}-text"})
    lines = [line for line in shared_server.log().splitlines() if fresh_room in line]
    told = [line for line in lines if "event=refused" in line]
    assert len(told) == 2
    assert "error=CHANNEL_NOT_FOUND" in told[0]
    assert "error=NOT_FOUND" in told[1]
    assert not [line for line in lines if "WARNING" in line or f"{fresh_room}-text" in line]


@pytest.mark.cluster
def test_while_the_database_is_away_callers_are_told_and_then_all_is_well(
    start_server: StartServer, call_as: CallAs, own_postgres_storage: Storage
) -> None:
    postgres = own_postgres_storage.postgres
    assert postgres is not None
    server = start_server(storage=own_postgres_storage)
    caller = call_as(server)
    path = "channels/science:explore/messages"
    caller.ok("POST", path, {"id": "before", "message": "x"})
    postgres.stop()
    # Log and metrics tell of it also while nobody asks for anything, and of its end.
    server.process.wait_for_log("event=store_lost")
    assert re.search(r"^arqonbus_store_available\{.*\} 0", server.get("/metrics")[1].decode(), re.MULTILINE)
    postgres.start()
    server.process.wait_for_log("event=store_back")
    postgres.stop()
    for method, where, body in (("GET", "rooms", None), ("POST", path, {"id": "while", "message": "x"})):
        answer = caller(method, where, body)
        assert answer.json()["error"]["code"] == "UNAVAILABLE"
        assert answer.headers["Retry-After"] == "1"
    assert caller.error("GET", "channels/science:explore/events")["number"] == 503
    postgres.start()
    wait_until(lambda: caller("GET", "rooms").status_code == 200, "the database is back")
    caller.ok("POST", path, {"id": "while", "message": "x"})
    assert len(caller.get(path)["results"]) == 2
