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
