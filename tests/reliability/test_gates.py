"""Gates on real servers: those that take too long, fail, or die hold up nobody else, and keep nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import arqonbus
from arqonbus.errors import Unavailable
from tests.conftest import Connect, StartServer
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for

ENV = {
    "DJANGO_SETTINGS_MODULE": "tests.reliability.gatekeeper.settings",
    "ARQONBUS_TELEMETRY_INTERVAL": "0",
    # Two threads: one of them may be lost to a gate that hangs.
    "ARQONBUS_GATE_THREADS": "2",
}


def rows(server: BusServer) -> list[str]:
    """What gates wrote, in order."""
    return [name for (name,) in server.storage.execute("SELECT name FROM auth_group ORDER BY id")]


async def refused(client: WireClient, room: str, payload: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Publish a message that must be refused; the error."""
    try:
        answer = await client.publish(room=room, payload=payload, ack=True, timeout=30, **options)
    except WireError as problem:
        error: dict[str, Any] = problem.frame["error"]
        return error
    raise AssertionError(f"not refused: {answer}")


async def test_a_gate_that_hangs_costs_its_own_publishers_their_messages_and_nobody_else(
    start_server: StartServer, wire: Connect, fresh_room: str, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(start_server, env=ENV)
    slow, told, open_ = f"{fresh_room}:slow", f"{fresh_room}:told", f"{fresh_room}:open"
    alice = await wire(server, client_id="alice", room=slow)
    bob = await wire(server, client_id="bob", room=told)
    until = tmp_path / "go-on"
    hangs = {"n": 1, "until": str(until), "reads": True}

    def post() -> tuple[int, bytes]:
        return server.request("POST", f"/api/v1/channels/{slow}/messages", {"payload": hangs})

    hanging = [
        asyncio.ensure_future(refused(alice, slow, hangs)),
        asyncio.ensure_future(refused(alice, slow, {"n": 2})),
        asyncio.ensure_future(refused(bob, f"{fresh_room}2:slow", hangs)),
    ]
    over_rest = asyncio.ensure_future(asyncio.to_thread(post))

    async def by_client() -> None:
        """Its second attempt would end without an answer, so the refusal of the first one is the error."""
        async with arqonbus.connect(server.url) as bus:
            with pytest.raises(Unavailable, match="takes too long; nothing was published"):
                await bus.publish(f"{fresh_room}3:slow", payload=hangs, timeout=4.5)

    hanging_client = asyncio.ensure_future(by_client())
    # While the gates hang, the same clients go on: through other gates, and through none.
    for n in range(20):
        assert (await alice.publish(room=told, payload={"n": n}, ack=True))["seq"] == n + 1
        await bob.publish(room=open_, payload={"n": n}, ack=True)
    errors = await asyncio.gather(*hanging)
    await hanging_client
    assert not until.exists()
    assert {error["code"] for error in errors} == {"UNAVAILABLE"}
    assert {error["message"] for error in errors} == {"A gate of this channel takes too long; nothing was published."}
    until.touch()
    assert (await over_rest)[0] == 503
    # What hung is rolled back, and the channel goes on behind it.
    last = {"n": "last"}
    await wait_for(lambda: _accepted(alice, slow, last), "the channel takes messages again")
    assert [name for name in rows(server) if ":slow" in name] == [f"{slow} last"]
    assert [frame["payload"] for frame in alice.messages(slow)] == []
    assert (await alice.request("history", room=slow))["messages"][0]["payload"] == last
    assert [frame["payload"]["n"] for frame in bob.messages(told)] == list(range(20))
    assert not alice.closed
    assert not bob.closed


async def _accepted(client: WireClient, room: str, payload: dict[str, Any]) -> bool:
    """Whether the first message of a channel is kept now. Raises WireError for another answer than UNAVAILABLE."""
    try:
        return bool((await client.publish(room=room, payload=payload, ack=True, timeout=30))["seq"] == 1)
    except WireError as problem:
        if problem.code != "UNAVAILABLE":
            raise
        return False


async def test_what_gates_decide(start_server: StartServer, wire: Connect, fresh_room: str) -> None:
    server = await asyncio.to_thread(start_server, env={**ENV, "ARQONBUS_GATE_TIMEOUT": "10"})
    told, audit = f"{fresh_room}:told", f"{fresh_room}:audit"
    alice = await wire(server, client_id="alice", room=audit)
    bob = await wire(server, client_id="bob", room=told)

    # Order, repeats, and a session that breaks under its gate.
    frames = [{"n": n, **({"do": "break"} if n == 3 else {})} for n in range(18)]
    await asyncio.gather(
        *(alice.publish(room=told, payload=frame, message_id=f"m{frame['n']}", ack=True) for frame in frames)
    )
    again = await alice.publish(room=told, payload={"n": 5, "do": "fail"}, message_id="m5", ack=True)
    assert (again["seq"], again["duplicate"]) == (6, True)
    await bob.wait_messages(told, 18)
    assert [frame["payload"]["n"] for frame in bob.messages(told)] == list(range(18))

    error = await refused(alice, told, {"n": "low", "do": "refuse"})
    assert (error["code"], error["number"], error["message"]) == ("REFUSED", 422, "Bid 12 or more.")
    assert error["details"] == [{"code": "TOO_LOW"}]
    broken = await refused(alice, told, {"n": "broken", "do": "fail", "text": "a-secret-text"})
    assert broken["code"] == "INTERNAL_ERROR"
    log = server.log()
    assert sum(broken["details"][0]["reference"] in line for line in log.splitlines()) == 1
    assert log.count("Traceback") == 1
    assert "a-secret-text" not in log

    swallowed = [
        await alice.publish(room=told, payload={"n": "gone", "do": "swallow"}, message_id="gone", ack=True)
        for _ in range(2)
    ]
    async with arqonbus.connect(server.url) as bus:
        receipt = await bus.publish(told, payload={"n": "unseen", "do": "swallow"})
        assert (receipt.seq, receipt.kept) == (None, False)
    assert [(ack["seq"], ack["kept"], ack.get("duplicate")) for ack in swallowed] == [
        (None, False, None),
        (None, False, True),
    ]
    await alice.publish(room=told, payload={"n": "new", "do": "change"}, ack=True)
    ack = await alice.publish(room=told, payload={"n": "two", "do": "publish"}, message_id="two", ack=True)
    assert ack["seq"] == 20
    await bob.wait_messages(told, 20)
    assert bob.messages(told)[-2]["payload"] == {"n": "new", "by": "a gate"}
    await alice.wait_messages(audit, 1)

    def post(payload: dict[str, Any]) -> tuple[int, Any]:
        status, body = server.request("POST", f"/api/v1/channels/{told}/messages", {"payload": payload})
        return status, json.loads(body)

    status, answer = await asyncio.to_thread(post, {"n": "rest", "do": "swallow"})
    assert (status, answer["kept"], answer["seq"]) == (201, False, None)
    status, answer = await asyncio.to_thread(post, {"n": "low", "do": "refuse"})
    assert (status, answer["error"]["details"]) == (422, [{"code": "TOO_LOW"}])

    # A stream's parts stay behind its opening.
    await alice.send({"type": "event", "id": "s", "room": told, "payload": {"n": "s"}, "stream": {"mode": "text"}})
    for n in (1, 2):
        await alice.send({"type": "append", "of": "arq_s", "n": n, "delta": "x", "ack": n == 2, "id": f"s{n}"})
    assert (await alice.expect("ack", request_id="s2"))["stream"]["have"] == 2

    assert rows(server) == [f"{told} {n}" for n in [*range(18), "gone", "unseen", "new", "two", "rest", "s"]]


@pytest.mark.chaos
async def test_a_process_that_is_killed_or_stopped_in_the_middle_of_a_gate(
    start_server: StartServer, wire: Connect, fresh_room: str, tmp_path: Path
) -> None:
    server = await asyncio.to_thread(start_server, env=ENV)
    told = f"{fresh_room}:told"
    alice = await wire(server, client_id="alice", room=told)
    # Killed in the middle of a gate, and sent again under the same id.
    await alice.send({"type": "event", "id": "k", "room": told, "payload": {"n": "k", "do": "kill"}, "ack": True})
    await alice.wait_closed()
    await asyncio.to_thread(server.restart)
    assert rows(server) == []
    carol = await wire(server, client_id="carol", room=told)
    assert (await carol.publish(room=told, payload={"n": "k"}, message_id="k", ack=True))["seq"] == 1

    # Stopped while a gate hangs: its publisher is told, and the process ends.
    hanging = asyncio.ensure_future(refused(carol, f"{fresh_room}:slow", {"n": "h", "until": str(tmp_path / "never")}))
    await carol.ping()
    stopping = asyncio.ensure_future(asyncio.to_thread(server.terminate))
    assert (await hanging)["code"] == "UNAVAILABLE"
    assert await stopping == 0
    assert rows(server) == [f"{told} k"]
