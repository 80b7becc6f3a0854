"""Rooms that are followed, first screens and amendments, in JavaScript."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_a_room_is_followed_over_a_restart_without_a_hole(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server = start_server()
    run = node("followed", server, room=fresh_room)
    run.expect("written")
    server.restart()
    said = run.expect("followed")
    assert (said["missing"], said["heard"], said["gaps"], said["truncated"]) == ([], 24, 0, False)
    assert {**said["positions"], "*": 0} == {"a": 9, "b": 8, "c": 8, "*": 0}
    assert said["channels"] == ["a", "b", "c"]
    assert said["last"] == ["last", "the first of a new channel"]
    assert {**said["places"], "*": 0} == {"a": 9, "b": 9, "c": 8, "later": 1, "*": 0}
    assert said["empty"] == {"*": {"seq": 0, "epoch": ""}}
    assert said["connections"] == 2


def test_live_late_and_history_readers_see_one_state(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    said = node("amended", shared_server, address=f"{fresh_room}:chat").expect("amended")
    assert (said["itself"], said["amends"], said["edited"], said["deleted"], said["same"]) == (True,) * 5
    assert said["texts"] == ["hello", "hello", "hello", ""]
    assert said["reactions"] == ["bob", "alice"]
    assert said["page"] == said["live"]
    assert (said["forbidden"], said["missing"], said["wrong"]) == ("FORBIDDEN", "MESSAGE_NOT_FOUND", "TypeError")
    assert said["screen"] == 4
