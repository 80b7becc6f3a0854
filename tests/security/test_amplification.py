"""One small thing that a client sends must not become a hundred large ones: what is kept and looked at is what counts."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.rest.conftest import CallAs, call_as

__all__ = ["call_as"]

TARGETS = 5


async def targets_of(server: BusServer, wire: Connect, count: int = TARGETS) -> list[str]:
    """Clients that letters can be sent to."""
    room = f"room-{secrets.token_hex(4)}"
    return [(await wire(server, client_id=f"t{n}-{secrets.token_hex(3)}", room=room)).client_id for n in range(count)]


async def refusal(client: WireClient, frame: dict[str, Any]) -> dict[str, Any] | None:
    """What became of a frame: None when it was taken."""
    await client.send(frame)
    answer = await client.expect(request_id=frame["id"])
    return answer.get("error")


def letter(number: int, to: list[str], text: str = "x") -> dict[str, Any]:
    return {"type": "private", "id": f"l{number}", "to": to, "message": text, "ack": True}


@pytest.mark.parametrize("kind", ["private", "event"])
async def test_a_letter_to_many_counts_once_for_each_on_a_socket(
    start_server: StartServer, wire: Connect, kind: str
) -> None:
    server = start_server(env={"ARQONBUS_RATE_LIMIT": "1", "ARQONBUS_RATE_BURST": "20"})
    to = await targets_of(server, wire)
    sender = await wire(server, client_id="sender")
    frames = [letter(n, to) for n in range(9)]
    if kind == "event":
        frames = [{**frame, "type": "event", "channel": "pm"} for frame in frames]
    answers = [await refusal(sender, frame) for frame in frames]
    taken = [answer is None for answer in answers]
    # Twenty frames, one of them for the registration, and those that the seconds bring: not nine letters.
    assert 3 <= sum(taken) <= 5, answers
    last = answers[-1]
    assert last is not None
    assert last["code"] == "RATE_LIMITED"
    assert last["retry_after"] > 0


async def test_the_bytes_of_a_letter_count_once_for_each_target_on_a_socket(
    start_server: StartServer, wire: Connect
) -> None:
    server = start_server(
        env={"ARQONBUS_BYTE_RATE_LIMIT": "20000", "ARQONBUS_FRAME_BYTES": "20000", "ARQONBUS_RATE_LIMIT": "200"}
    )
    to = await targets_of(server, wire)
    sender = await wire(server, client_id="sender")
    assert await refusal(sender, letter(1, to, "x" * 15_000)) is None
    refused = await refusal(sender, letter(2, to, "x" * 15_000))
    # Of 40,000 bytes the first one took 75,000: what is owed has to be paid first.
    assert refused is not None
    assert refused["code"] == "RATE_LIMITED"
    assert refused["retry_after"] > 1


async def test_a_letter_to_many_counts_once_for_each_over_rest(
    start_server: StartServer, wire: Connect, call_as: CallAs
) -> None:
    server = start_server(env={"ARQONBUS_RATE_LIMIT": "1", "ARQONBUS_RATE_BURST": "20"})
    to = await targets_of(server, wire)
    caller = call_as(server, server.create_token("one", admin=True))
    statuses = [
        caller("POST", "/messages", {"type": "private", "to": to, "message": "x"}).status_code for _ in range(9)
    ]
    assert 3 <= statuses.count(201) <= 5, statuses
    assert statuses[-1] == 429


async def test_a_batch_is_bounded_in_what_it_becomes_before_anything_is_written(
    start_server: StartServer, wire: Connect, call_as: CallAs
) -> None:
    server = start_server(
        env={"ARQONBUS_BATCH_ROWS": "20", "ARQONBUS_BATCH_BYTES": "50000", "ARQONBUS_BYTE_RATE_LIMIT": "100000"}
    )
    to = await targets_of(server, wire)
    caller = call_as(server, server.create_token("one", admin=True))

    def letters(count: int, size: int = 1) -> dict[str, Any]:
        return {"messages": [{"type": "private", "to": to, "message": "x" * size} for _ in range(count)]}

    many = caller.error("POST", "/messages", letters(5))
    assert (many["code"], many["details"][0]) == ("LIMIT_REACHED", {"limit": "batch_rows", "value": 20})
    large = caller.error("POST", "/messages", letters(2, 8_000))
    assert (large["code"], large["details"][0]) == ("FRAME_TOO_LARGE", {"limit": "batch_bytes", "value": 50_000})
    alone = caller.error("POST", "/messages", letters(1, 12_000)["messages"][0])
    assert alone["code"] == "FRAME_TOO_LARGE"
    # The very first letter of each inbox comes now.
    seqs = [row["seq"] for row in caller.ok("POST", "/messages", letters(4))["results"]]
    assert max(seqs) == 4


async def test_the_bytes_of_one_identity_over_rest_are_limited(
    start_server: StartServer, wire: Connect, call_as: CallAs
) -> None:
    server = start_server(
        env={
            "ARQONBUS_BYTE_RATE_LIMIT": "1000",
            "ARQONBUS_BATCH_BYTES": "50000",
            "ARQONBUS_RATE_LIMIT": "200",
        }
    )
    to = await targets_of(server, wire)
    caller = call_as(server, server.create_token("one", admin=True))
    body = {"type": "private", "to": to, "message": "x" * 4_900}
    assert caller("POST", "/messages", body).status_code == 201
    error = caller.error("POST", "/messages", body)
    assert error["code"] == "RATE_LIMITED"
    assert error["retry_after"] > 1


async def test_a_page_of_large_messages_ends_early_and_goes_on(
    start_server: StartServer, wire: Connect, call_as: CallAs, fresh_room: str
) -> None:
    server = start_server()
    caller = call_as(server, server.create_token("one", admin=True))
    # Longer than one log, so that both ways of reading are taken: a channel, and a room of several.
    for n in range(24):
        message = {"message": "x" * 200_000, "id": f"m{n}"}
        assert caller("POST", f"/channels/{fresh_room}:c{n % 2}/messages", message).status_code == 201
    # A message stands twice in such a frame, as text and in the payload.
    for path, query, count in (
        (f"/channels/{fresh_room}:c0/messages", {}, 12),
        ("/messages", {"room": fresh_room}, 24),
    ):
        pages = caller.pages(path, limit=500, **query)
        assert [len(page) <= 12 for page in pages] == [True] * len(pages)
        assert len(pages) >= count // 12
        ids = [row["id"] for page in pages for row in page]
        assert len(ids) == len(set(ids)) == count
        assert max(sum(len(json.dumps(row)) for row in page) for page in pages) <= 4 * 1024 * 1024


async def test_a_flood_of_costly_questions_leaves_the_others_their_acks(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server(env={"ARQONBUS_RATE_LIMIT": "20", "ARQONBUS_RATE_BURST": "200"})
    server.manage(
        "shell",
        "-c",
        "from bus.models import *; r = Room.objects.create(name='a-vault', private=True);"
        "Channel.objects.bulk_create(Channel(room=r, name=f'h{n}') for n in range(3000));"
        "n = Node.objects.create(id='elsewhere', host='h', pid=1, version='0');"
        "Client.objects.bulk_create(Client(client_id=f'a-{n}', node_id='elsewhere') for n in range(3000))",
    )
    askers = [await wire(server, client_id=f"asker-{n}") for n in range(4)]
    publisher = await wire(server, client_id="publisher", room=fresh_room)
    for asker in askers:
        for n in range(200):
            await asker.send(asker.command_frame("status", {"limit": 1, "after": "a"}, f"q{n}"))
    # While they are answered or refused, each publish gets its ack, one after another.
    for n in range(100):
        await publisher.publish(n, room=fresh_room, ack=True)
    for asker in askers:
        answers = [await asker.expect(request_id=f"q{n}") for n in range(200)]
        refused = [one for one in answers if one.get("error", {}).get("code") == "RATE_LIMITED"]
        # Two hundred frames at once are twenty such questions.
        assert len(refused) >= 100
        assert len(refused) < 200
