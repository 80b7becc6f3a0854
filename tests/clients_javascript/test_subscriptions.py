"""Where the JavaScript client is a member and what it hears: subscriptions that cross, channels and logs that are made anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from arqonbus import sync
from arqonbus.errors import ChannelNotFound
from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.server import BusServer, http_request
from tests.reliability.traffic import query

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_who_is_open_is_a_member_and_misses_nothing_however_subscriptions_cross(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    seeds = list(range(1, 13))
    run = node("crossing", shared_server, room=fresh_room, seeds=seeds, steps=60)
    crossed = [run.expect("crossed", deadline=60) for _ in seeds]
    assert [each for each in crossed if each["faults"]] == []
    # Lines broke, or the model saw half of it.
    assert sum(each["connections"] for each in crossed) > len(seeds)
    run.finish()


def test_who_comes_back_to_a_channel_that_was_made_anew_hears_all_of_it_and_is_told(
    node: Run, shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    run = node(
        "made_anew", shared_server, address=f"{fresh_room}:anew", clientId=f"away-{fresh_room}", token=admin_token
    )
    said = run.expect("made_anew")
    assert said["heard"] == [["old 1", "old 2", "old 3", "old 4", "old 5", "old, to all"]] * 2
    for after in said["after"]:
        assert after == {
            "texts": ["new 1", "new 2", "new 3", "new, to all"],
            "gaps": [True, False, False, False],
            "told": 1,
        }
    assert not said["same"]
    assert said["right"]
    assert said["whole"] == "new, to all"
    run.finish()


def test_a_snapshot_is_taken_at_first_and_whenever_messages_are_lost(
    node: Run, shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    run = node("snapshot", shared_server, address=f"{fresh_room}:x", clientId=f"page-{fresh_room}", token=admin_token)
    said = run.expect("snapshot")
    assert said["heard"] == [["one", "two"], "meanwhile", "three", ["anew"], "on"]
    assert said["errors"] == ["The view is away for a moment."]
    assert (said["calls"], said["gaps"], said["seq"]) == (3, 1, 2)
    assert run.expect("closed")["done"]
    run.finish()


def _remove(storage: Storage, server: BusServer, room: str, client_id: str) -> None:
    """Take the channel away from its member; nobody but the next publisher finds out."""
    for table in ("bus_message", "bus_membership", "bus_publishkey"):
        query(storage, f"DELETE FROM {table} WHERE channel_id IN (SELECT id FROM bus_channel WHERE name = 'x')")
    query(storage, "DELETE FROM bus_channel WHERE name = 'x'")
    with sync.connect(server.url) as bus, pytest.raises(ChannelNotFound):
        bus.publish(f"{room}:x", "into nothing")


def _withdraw(storage: Storage, server: BusServer, room: str, client_id: str) -> None:
    """Close the room to its member."""
    _set_private(server, room, private=True)


def _set_private(server: BusServer, room: str, *, private: bool) -> None:
    headers = {"Authorization": f"Bearer {server.create_token(f'admin-{private}', admin=True)}"}
    status, body = http_request(f"{server.http_url}/api/v1/rooms/{room}", "PATCH", {"private": private}, headers)
    assert status == 200, body


@pytest.mark.parametrize(
    ("end", "code", "after"), [(_remove, "CHANNEL_NOT_FOUND", "CHANNEL_NOT_FOUND"), (_withdraw, "REVOKED", [])]
)
def test_a_subscription_that_ended_does_not_join_again(
    node: Run,
    start_server: StartServer,
    storage: Storage,
    fresh_room: str,
    end: Callable[[Storage, BusServer, str, str], None],
    code: str,
    after: object,
) -> None:
    server = start_server()
    run = node("ended", server, address=f"{fresh_room}:x")
    end(storage, server, fresh_room, run.expect("ready")["clientId"])
    assert run.expect("over") == {"event": "over", "code": code, "same": True}
    if code == "REVOKED":
        _set_private(server, fresh_room, private=False)
    run.tell("on")
    assert run.expect("after")["there"] == after
    run.finish()


def test_a_place_in_an_inbox_counts_in_the_log_that_it_belongs_to(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    token = shared_server.create_token(f"owner-{fresh_room}")
    run = node("inbox_places", shared_server, clientId=f"ada-{fresh_room}", token=token)
    said = run.expect("places")
    # The log's name is known from the start, also of an inbox that came into being after the registration.
    assert said["position"] == [3, True]
    everything = [["1 after a gap", "2", "3", "4"], 1]
    assert said["told"] == {
        "own": [["4"], 0],
        "before": [["2", "3", "4"], 0],
        "chosen": [["2", "3", "4"], 0],
        "old": everything,
        "unknown": everything,
        "beyond": everything,
        "none": [["1", "2", "3", "4"], 0],
    }
    run.finish()


def test_every_log_that_was_rebuilt_is_told_as_a_gap_and_goes_on(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server = start_server()
    client_id, address = f"ada-{fresh_room}", f"{fresh_room}:x"
    run = node("rebuilt", server, address=address, clientId=client_id, token=server.create_token("ada"))
    run.expect("ready")

    def say(text: str) -> None:
        with sync.connect(server.url) as bus:
            bus.publish(address, text)
            bus.publish(fresh_room, text)
            bus.private(client_id, text)

    say("old")
    run.expect("heard")
    server.terminate()
    server.manage("new_epochs")
    server.start()
    say("new")
    said = run.expect("told")
    for name, told in said["told"].items():
        assert told["heard"] in ([["old", True], ["new", False]], [["new", True]]), name
        assert told["epoch"], name
    assert said["connections"] == 2
    run.finish()
