"""The JavaScript client in node: messages, commands, refusals, and coming back without losing or doubling a message."""

from __future__ import annotations

import pytest

from bus.protocol.errors import CLOSE_CODES
from tests.conftest import Connect, StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import free_port

from .conftest import Run

pytestmark = [pytest.mark.needs("node"), pytest.mark.embedded]


def test_close_codes_are_those_of_the_server(node: Run) -> None:
    answer = node("tables", "").expect("tables")
    assert answer["rows"] == [[code, kind.meaning, kind.reconnect] for code, kind in CLOSE_CODES.items()]
    assert answer["broken"]
    assert not answer["policy"]


def test_two_clients_talk_by_iterator_callback_and_inbox(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    address, alice, bob = f"{fresh_room}:talk", f"alice-{fresh_room}", f"bob-{fresh_room}"
    run = node("exchange", shared_server, address=address, alice=alice, bob=bob)
    said = run.expect("exchange")
    assert said["notice"] == ["client_joined", bob]
    assert said["receipt"]["seq"] == 1
    assert not said["receipt"]["duplicate"]
    assert said["first"] == {
        "seq": 1,
        "text": "hello",
        "sender": bob,
        "id": said["receipt"]["id"],
        "metadata": {"tag": 1},
        "time": True,
    }
    assert said["second"] == {"temperature": 21.5}
    assert said["called"] == ["hi Bob"]
    assert said["secret"] == ["psst", True]
    assert said["refusal"] == [True, "TARGET_NOT_FOUND", [{"client_id": "nobody-here"}]]
    assert said["repeat"]["duplicate"]
    assert said["repeat"]["seq"] == 1
    run.finish()


def test_every_command_is_a_method_and_history_goes_over_all_pages(
    node: Run, shared_server: BusServer, fresh_room: str
) -> None:
    token = shared_server.create_token(f"js-{fresh_room}", admin=True)
    run = node("commands", shared_server, address=f"{fresh_room}:start", token=token)
    said = run.expect("commands")
    assert said["role"] == "admin"
    assert said["address"] == f"{fresh_room}:start"
    assert said["history"] == [1204, "m1", "the last", 1204]
    assert said["room"] == [True, ["m1202", "m1203", "the last"]]
    assert said["page"] == [["m1203", "the last"], 1203]
    assert {"status", "history", "join_channel", "help"} <= set(said["help"])
    assert said["pong"] == [True, {"n": 1}]
    assert sorted(said["rows"]) == ["made-here", "start"]
    assert said["head"] == 1204
    assert said["version"] == "1.0"
    assert said["there"]
    assert said["unknown"] == "UNKNOWN_COMMAND"
    assert run.expect("closed")["error"] is True
    run.finish()


def test_refusals_say_why_and_are_not_tried_again(node: Run, shared_server: BusServer, fresh_room: str) -> None:
    nobody = f"ws://127.0.0.1:{free_port()}/"
    run = node("refusals", shared_server, clientId=f"twice-{fresh_room}", nobody=nobody)
    said = run.expect("refusals")
    assert said["second"] == [True, 4409, "CLIENT_ID_IN_USE"]
    assert said["wrong"] == [True, 4401, "UNAUTHENTICATED"]
    assert said["nobody"] is True
    assert said["page"] is True
    assert said["name"] == ["INVALID_NAME", 400, False]
    # The message alone says what is wrong: a stack trace shows no details.
    assert "\n  client_id: `client_id` must be 1 to 64" in said["id"]
    run.finish()


def test_a_runtime_without_websocket_can_bring_its_own(node: Run, shared_server: BusServer) -> None:
    run = node("own_socket", shared_server)
    said = run.expect("own_socket")
    assert "WebSocket" in said["without"]
    assert said["used"] == 1
    assert said["pong"] is True
    run.finish()


def test_an_iterator_sees_every_message_once_when_the_server_is_killed_in_mid_stream(
    node: Run, start_server: StartServer, fresh_room: str
) -> None:
    server, address, count = start_server(), f"{fresh_room}:stream", 3000
    reader = node("reader", server, clientId="reader", address=address, tell=200)
    slow = node("reader", server, clientId="slow", address=address, tell=1, buffer=7)
    reader.expect("ready")
    slow.expect("ready")
    writer = node("writer", server, clientId="writer", address=address, count=count)
    reader.expect("underway")
    server.restart()
    written = writer.expect("written")
    assert sorted(written["seqs"]) == list(range(1, count + 1))
    assert written["connections"] == 2
    for run in (reader, slow):
        read = run.expect("read")
        assert read["seqs"] == list(range(1, count + 2))
        assert read["gaps"] == 0
        assert read["connections"] == 2
        states = [line["state"] for line in run.seen if line["event"] == "state"]
        assert states == ["connected", "reconnecting", "connected"]


async def test_after_being_taken_over_it_stays_away(
    node: Run, shared_server: BusServer, wire: Connect, fresh_room: str
) -> None:
    token = shared_server.create_token(f"owner-{fresh_room}")
    client_id = f"gone-{fresh_room}"
    run = node("stays_away", shared_server, clientId=client_id, address=f"{fresh_room}:x", token=token)
    run.expect("ready")
    await wire(shared_server, client_id=client_id, token=token)
    said = run.expect("ended")
    assert said["closeCode"] == 4410
    assert said["code"] == "TAKEN_OVER"
    assert said["state"] == "closed"
    run.finish()


async def test_a_line_that_went_silent_is_noticed_and_replaced(
    node: Run, start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    # A registration has places for two memberships; the places in rooms that it has left are not among them.
    server, address = start_server(env={"ARQONBUS_MEMBERSHIPS": "2"}), f"{fresh_room}:x"
    run = node("dead_line", server, clientId="listener", address=address)
    run.expect("ready")
    server.freeze()
    while run.expect("state")["state"] != "reconnecting":
        pass
    server.thaw()
    while run.expect("state")["state"] != "connected":
        pass
    client = await wire(server)
    await client.send({"type": "event", "room": fresh_room, "channel": "x", "message": "still there?"})
    said = run.expect("heard")
    assert said["text"] == "still there?"
    assert said["connections"] >= 2
    run.finish()
