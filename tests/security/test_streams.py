"""Attacks with streamed messages: wrong frames, other people's streams, hidden ones, floods, and withdrawn rights."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from bus.protocol.errors import BusError
from bus.services import publish
from tests.conftest import Connect, StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until
from tests.security.conftest import Console
from tests.wire.test_streamed import DEADLINE, Owner, refused

#: What is wrong with an append, as text. Each is refused by itself, and the connection goes on.
WRONG = [
    '"n":1,"delta":5',
    '"n":1,"delta":["x"]',
    '"n":1,"delta":"x","part":{}',
    '"n":1',
    '"n":"1","delta":"x"',
    '"n":1.0,"delta":"x"',
    '"n":true,"delta":"x"',
    '"n":-1,"delta":"x"',
    '"n":0,"delta":"x"',
    '"n":9007199254740992,"delta":"x"',
    '"n":' + "9" * 5000 + ',"delta":"x"',
    '"n":1e999,"delta":"x"',
    '"n":1,"part":[]',
    '"n":1,"part":{"big":' + "9" * 30 + "}",
    '"n":1,"delta":"x","end":"open"',
    '"n":1,"delta":"x","end":{}',
    '"n":1,"delta":"x","payload":{}',
    '"n":1,"delta":"x","end":"complete","payload":[]',
    '"n":1,"delta":"x","took":"arq_x"',
    '"n":1,"delta":"x","took":[1]',
    '"n":1,"delta":"x","took":["' + '","'.join(["arq_x"] * 101) + '"]',
    '"n":1,"delta":"x","token":1',
    '"n":1,"delta":"x","token":"' + "x" * 300 + '"',
    '"n":1,"delta":"x","ack":"yes"',
    '"n":1,"delta":"\\ud800"',
    '"n":1,"delta":"\\udc00\\ud800"',
    '"n":1,"delta":"\\x"',
    '"n":1,"delta":"x' + "\x01" + '"',
    '"n":1,"part":' + '{"x":' * 40 + "1" + "}" * 40,
]


async def test_wrong_appends_are_refused_one_by_one_and_change_nothing(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server(env={"ARQONBUS_BAD_FRAMES": "1000"})
    client = await wire(server, room=fresh_room, channel="a")
    reader = await wire(server, room=fresh_room, channel="a")
    owner = Owner(client)
    await owner.open()
    for number, wrong in enumerate(WRONG):
        await client.send(f'{{"type":"append","id":"w{number}","of":"{owner.of}",{wrong}}}')
        error = (await client.expect("error", request_id=f"w{number}", timeout=DEADLINE))["error"]
        assert error["code"] in ("VALIDATION_ERROR", "INVALID_JSON"), (wrong, error)
    for of in ("", "x" * 161, "a\\u0000b"):
        await client.send(f'{{"type":"append","id":"of","of":"{of}","n":1,"delta":"x"}}')
        assert (await client.expect("error", request_id="of", timeout=DEADLINE))["error"]["details"][0]["field"] == "of"
    for stream in ({"mode": "video"}, {"mode": 1}, {"mode": "text", "of": "arq_x"}):
        error = await refused(client.publish(stream=stream, ack=True))
        assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "stream")
    await owner.append(1, "\U0001f600 and \x00 stay as they are", end="complete")
    assert (await reader.expect("stream_end", timeout=DEADLINE))["message"] == "\U0001f600 and \x00 stay as they are"


async def test_nobody_but_the_owner_adds_to_a_stream_or_ends_it(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    mine, others = console.token(f"mine {fresh_room}"), console.token(f"others {fresh_room}")
    owner = Owner(await wire(public_server, room=fresh_room, channel="a", token=mine))
    await owner.open()
    await owner.append(1, "mine")
    strangers = [
        Owner(await wire(public_server, room=fresh_room, channel="a"), owner.of),
        Owner(await wire(public_server, room=fresh_room, channel="a", token=others), owner.of),
        # The owner's own identity under another client id.
        Owner(await wire(public_server, room=fresh_room, channel="a", token=mine), owner.of),
    ]
    for stranger in strangers:
        for attempt in (
            stranger.append(2, "yours"),
            stranger.append(2, "yours", token="a guess"),
            stranger.append(1, end="aborted"),
        ):
            assert (await refused(attempt))["code"] == "STREAM_LOST"
    for stranger in strangers[:2]:
        assert (await refused(stranger.client.request("adopt_stream", of=owner.of)))["code"] == "FORBIDDEN"
    # No client sends the end by itself, in whatever dialect.
    for stranger in (*strangers, owner):
        for forged in (
            {"type": "stream_end", "of": owner.of, "message": "forged"},
            {"type": "stream_end", "version": "1.0", "id": "arq_forged", "payload": {"of": owner.of}},
        ):
            await stranger.client.send({"id": "forged", **forged})
            error = await stranger.client.expect("error", timeout=DEADLINE)
            assert error["error"]["code"] in ("VALIDATION_ERROR", "UNKNOWN_TYPE")
    ack = await owner.append(2, ", still", end="complete")
    assert ack["stream"]["have"] == 2


@pytest.mark.django_db
def test_a_project_does_not_forge_an_end_by_mistake() -> None:
    with pytest.raises(BusError, match="stream_end is reserved for the server"):
        publish("a:b", message="forged", type="stream_end")


async def test_a_hidden_stream_is_a_missing_one(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "hall")
    admin = await wire(public_server, token=console.token(f"admin {fresh_room}", admin=True))
    owner = Owner(admin)
    await owner.open(room=fresh_room, channel="hall")
    await owner.append(1, "secret")
    stranger = await wire(public_server, room=f"open-{fresh_room}", channel="a")

    async def answers(of: str) -> list[str]:
        """What a stranger is told about a stream, without its name."""
        other = Owner(stranger, of)
        told = [
            await refused(answer)
            for answer in (
                other.append(1, "x"),
                other.append(2, "x", token="guess"),
                other.append(1, end="complete"),
                stranger.request("stop_stream", of=of),
                stranger.request("adopt_stream", of=of),
                stranger.publish("x", steer=of, ack=True),
            )
        ]
        assert {error["code"] for error in told} == {"STREAM_NOT_FOUND"}
        return [json.dumps(error).replace(of, "it") for error in told]

    assert await answers(owner.of) == await answers("arq_" + secrets.token_hex(6))
    # The id is taken for everybody: that alone can be found out, as with every name that its owner chooses.
    error = await refused(Owner(stranger, owner.of).open())
    assert (error["code"], error["details"][0]["field"]) == ("VALIDATION_ERROR", "id")
    # A connection that opened a stream of the same name elsewhere gets no further.
    assert (await refused(Owner(stranger, owner.of).append(2, "x")))["code"] == "STREAM_NOT_FOUND"
    assert (await owner.append(2, ", kept"))["stream"]["have"] == 2


async def test_a_withdrawn_right_stops_the_owner(
    wire: Connect, public_server: BusServer, console: Console, fresh_room: str
) -> None:
    console.private_room(fresh_room, "hall")
    console.user(f"writer-{fresh_room}")
    console.grant("user", f"writer-{fresh_room}", "join", f"{fresh_room}:*")
    grant = console.grant("user", f"writer-{fresh_room}", "publish", f"{fresh_room}:*")
    token = console.token(f"writer {fresh_room}", user=f"writer-{fresh_room}")
    wait_until(
        lambda: public_server.request(
            "POST", f"/api/v1/channels/{fresh_room}:hall/messages", {"message": "x"}, {"Authorization": f"Bearer {token}"}
        )[0] == 201,
        "the grants act",
        deadline=20,
    )  # fmt: skip
    owner = Owner(await wire(public_server, room=fresh_room, channel="hall", token=token))
    await owner.open()
    await owner.append(1, "allowed")
    console.revoke(grant)
    have, code = 1, ""
    async with asyncio.timeout(DEADLINE):
        while not code:
            answer = await _answer(owner, have + 1)
            code = answer.get("error", {}).get("code", "")
            have += not code
    assert code == "FORBIDDEN"
    assert (await refused(owner.append(have + 1, "more")))["code"] == "FORBIDDEN"


async def _answer(owner: Owner, n: int) -> dict[str, Any]:
    frame = owner.frame(n, "x", id=secrets.token_hex(6))
    await owner.client.send(frame)
    return await owner.client.expect(predicate=lambda got: got.get("request_id") == frame["id"], timeout=DEADLINE)


async def test_floods_are_bounded_and_a_refused_part_leaves_no_hole(
    start_server: StartServer, wire: Connect, fresh_room: str
) -> None:
    server = start_server(
        env={
            "ARQONBUS_RATE_LIMIT": "50",
            "ARQONBUS_RATE_BURST": "200",
            "ARQONBUS_STREAMS": "5",
            "ARQONBUS_BAD_FRAMES": "9999",
        }
    )
    client = await wire(server, room=fresh_room, channel="a")
    reader = await wire(server, room=fresh_room, channel="a")
    # As many openings as come: five are taken.
    for number in range(60):
        await client.send({"type": "event", "id": f"{fresh_room}-{number}", "stream": {}, "ack": True})
    answers = [await client.expect(predicate=lambda got: "request_id" in got, timeout=DEADLINE) for _ in range(60)]
    assert [answer["type"] for answer in answers].count("ack") == 5
    assert {answer["error"]["code"] for answer in answers if answer["type"] == "error"} == {"LIMIT_REACHED"}
    # Parts above the rate are refused; the ones behind them are gaps, and the owner goes on from `have`.
    owner = Owner(client, f"arq_{fresh_room}-0")
    for n in range(1, 301):
        await client.send(owner.frame(n, f"{n} ", id=f"p{n}"))
    answers = [
        await client.expect(predicate=lambda got: str(got.get("request_id", "")).startswith("p"), timeout=DEADLINE)
        for _ in range(300)
    ]
    codes = {answer["error"]["code"] for answer in answers if answer["type"] == "error"}
    assert "RATE_LIMITED" in codes
    assert codes <= {"RATE_LIMITED", "STREAM_GAP"}
    have = max(answer["stream"]["have"] for answer in answers if answer["type"] == "ack")
    async with asyncio.timeout(DEADLINE):
        while True:
            answer = await _end(owner, have)
            if answer["type"] == "ack":
                break
            assert answer["error"]["code"] == "RATE_LIMITED"
            await asyncio.sleep(answer["error"]["retry_after"])
    end = await reader.expect("stream_end", timeout=DEADLINE)
    assert end["message"] == "".join(f"{n} " for n in range(1, have + 1))


async def _end(owner: Owner, n: int) -> dict[str, Any]:
    frame = owner.frame(n, end="complete", id=f"e{secrets.token_hex(6)}")
    await owner.client.send(frame)
    return await owner.client.expect(predicate=lambda got: got.get("request_id") == frame["id"], timeout=DEADLINE)
