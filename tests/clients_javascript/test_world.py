"""The JavaScript client among applications that fail, pages in the background, and texts that nobody can send."""

from __future__ import annotations

import pytest

from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_listeners_that_throw_cost_a_report_and_nothing_else(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = node("listeners", shared_server, address=f"{fresh_room}:x")
    said = run.expect("listeners")
    assert said["heard"] == ["one", "two"]
    assert said["state"] == "closed"
    states = ["connected", "reconnecting", "closed"]
    assert {f"onState {state}" for state in states} | {f"state {state}" for state in states[1:]} <= set(said["thrown"])
    assert {"onFrame in", "onFrame out", "notice", "error", "message one", "async state closed"} <= set(said["thrown"])
    run.finish()
    for where in said["thrown"]:
        assert f"a fault of the application: {where}" in run.errors


def test_functions_that_never_return_are_asked_again(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    token = shared_server.create_token(f"late-{fresh_room}", admin=True)
    run = node("functions", shared_server, token=token)
    said = run.expect("functions")
    assert said["late"] == ["ConnectionFailed", "The function for the token failed: no answer within 0.2 s"]
    assert said["role"] == "admin"
    assert said["answers"] == [6, 3, 3]
    assert said["kept"] is False
    run.finish()
    assert "the identity could not be stored" in run.errors


def test_a_page_in_the_background_keeps_its_line_and_finds_out_that_it_is_dead(
    node: Run, shared_server: BusServer
) -> None:
    run = node("background", shared_server)
    assert run.expect("quiet") == {"event": "quiet", "states": ["connected"], "connections": 1}
    dead = run.expect("dead")
    assert dead["states"] == ["reconnecting"]
    assert dead["minutes"] <= 4
    run.finish()


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
def test_a_time_without_a_zone_is_utc_wherever_the_page_is(
    node: Run, shared_server: BusServer, fresh_room: str, zone: str
) -> None:
    run = node("times", shared_server, {"TZ": zone}, address=f"{fresh_room}:x")
    said = run.expect("times")
    assert said["zone"] != 0
    assert said["found"] == ["one"] * 20
    assert said["refused"] == ["RangeError"] * 6
    run.finish()


def test_what_no_server_takes_is_refused_at_once_and_never_sent(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    run = node("unsendable", shared_server, address=f"{fresh_room}:x")
    said = run.expect("unsendable")
    assert len(said["refusals"]) == 20
    codes = {"too large": "FRAME_TOO_LARGE", "a number": "VALIDATION_ERROR"}
    for name, refusal in said["refusals"].items():
        code = next((code for beginning, code in codes.items() if name.startswith(beginning)), "INVALID_JSON")
        assert refusal == f"true {code}", name
    assert said["sent"] == 0
    assert said["taken"] == [True] * 8
    assert said["wrong"] == 0
    assert said["connections"] == 1
    assert said["state"] == "connected"
    run.finish()


def test_what_waits_for_a_connection_has_an_end(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    run = node("no_line", shared_server, address=f"{fresh_room}:x")
    said = run.expect("no_line")
    assert said["outcomes"] == ["TimedOut"] * 4
    assert said["opened"] is True
    assert said["read"] == {"done": True}
    assert said["left"] == 0
    run.finish()
