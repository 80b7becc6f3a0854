"""Clients that work together, in JavaScript: marks, leased work, questions with an answer, and status."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_a_first_visit_begins_now_and_each_later_one_gets_what_came_in_between(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    said = node("marks", shared_server, address=f"{fresh_room}:news", clientId=f"visitor-{fresh_room}").expect("marks")
    assert said["first"] == []
    assert said["second"] == ["one", "two"] * 2
    assert said["third"] == ["three"] * 2


def test_a_mark_goes_forward_only_unless_it_is_told_to_go_back(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    token = shared_server.create_token(f"reader-{fresh_room}")
    said = node("marking", shared_server, address=f"{fresh_room}:book", token=token).expect("marking")
    assert said["marked"] == 2
    assert said["unread"] == [1]
    assert said["same"] == 2
    assert said["back"] == 2
    assert said["beyond"] == "VALIDATION_ERROR"
    assert said["texts"] == ["b", "c"]


def admin(server: BusServer, room: str) -> str:
    """A token that may create and manage channels."""
    return server.create_token(f"admin-{room}", admin=True)


@pytest.mark.chaos
def test_workers_do_each_job_once_although_the_server_is_killed_in_the_middle(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server, address = start_server(), f"{fresh_room}:jobs"
    run = node("leased", server, address=address, concurrency=3, jobs=40, token=admin(server, fresh_room))
    run.expect("half")
    server.restart()
    said = run.expect("all", deadline=90)
    assert set(said["done"]) == set(range(40))
    assert said["left"] == [0, 0]
    assert said["most"] <= 3
    assert said["connections"] == 2


def test_a_worker_that_lost_its_job_hears_why_and_an_operator_decides_about_dead_jobs(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    address = f"{fresh_room}:jobs"
    token = admin(shared_server, fresh_room)
    said = node("claims", shared_server, address=address, token=token).expect("claims")
    assert said["attempts"] == [1, 2, 1]
    assert said["lost"] == [True, "taken"]
    assert said["claimed"] == [[1, 2]]
    assert said["finished"] == ["done", "done"]
    assert said["rejected"] == "dead"
    assert said["dead"] == [[2, "broken"]]
    assert said["cancelled"] == [True, "cancelled"]
    assert said["delayed"] == 1


def test_people_decide_and_a_program_gets_their_answer(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    token = admin(shared_server, fresh_room)
    said = node("decides", shared_server, address=f"{fresh_room}:approvals", token=token).expect("decides")
    assert said["row"] == ["Refund?", {"amount": 20}, True]
    assert said["refusals"] == ["FORBIDDEN", "VALIDATION_ERROR", "ALREADY_USED", "REJECTED_BEFORE"]
    assert said["edited"] == ["edited", {"amount": 15}, "the rest", True]
    assert said["no"] == "rejected"
    assert said["late"] == ["TimedOut", "cancelled"]
    assert said["own"] == ["cancelled", "rejected", "edited"]


@pytest.mark.chaos
def test_a_program_waits_for_people_over_a_restart(node: Run, start_server: StartServer) -> None:
    server = start_server()
    run = node("decides", server, address="desk:approvals", token=admin(server, "desk"))
    run.expect("waits")
    server.restart()
    run.tell("go on")
    assert run.expect("kept")["state"] == "approved"


def test_each_question_gets_its_own_reply_or_says_why_there_is_none(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    address, token = f"{fresh_room}:sums", admin(shared_server, fresh_room)
    adder, question = f"adder-{fresh_room}", f"q-{fresh_room}"
    run = node("asks", shared_server, clientId=adder, id=question, address=address, token=token)
    said = run.expect("asks")
    assert said["sums"] == [2 * n for n in range(20)]
    assert said["early"] == 42
    assert said["text"] == {"result": "no numbers"}
    assert said["failed"] == [True, "RangeError: cannot add that"]
    assert said["nobody"] == "NO_RESPONDER"
    assert said["late"] == ["ASK_TIMEOUT", True]
    assert said["repeated"]
    assert said["inbox"] == "a plain one"
    assert run.expect("work")["result"] == {"twice": 42}


@pytest.mark.chaos
def test_a_durable_question_is_answered_by_a_responder_that_comes_back_after_a_restart(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server, to = start_server(), f"adder-{fresh_room}"
    first = node("responder", server, clientId=to, by="first")
    identity = first.expect("ready")["identity"]
    first.kill()
    asked = node("asker", server, to=to)
    asked.expect("connected")
    server.restart()
    again = node("responder", server, clientId=to, by="second", identity=identity)
    assert asked.expect("answered", deadline=60)["payload"] == {"by": "second", "n": 1}
    again.tell("end")


def test_a_status_is_seen_by_members_and_in_the_directory_until_it_ends(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    token = admin(shared_server, fresh_room)
    said = node("status", shared_server, room=fresh_room, skill=f"skill-{fresh_room}", token=token).expect("status")
    assert said["notices"] == ["review", None, "short", None]
    assert said["member"] == "review"
    [[same, status, card]] = said["found"]
    assert same
    assert status["tokens"] == 12
    assert card["name"] == "Noor"
