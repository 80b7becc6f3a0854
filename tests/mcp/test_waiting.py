"""The wait for a message: it begins at the mark, moves no mark itself, and hears what comes while it waits."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.mcp.conftest import Agent, Door, agent

WAIT = 20


async def next_text(robot: Agent, address: str, mark: int | None = None) -> tuple[str | None, int]:
    """The text of the next message, and the mark to give once it is dealt with."""
    heard = await robot("wait_for_message", address=address, mark=mark, timeout_seconds=WAIT)
    return heard["message"] and heard["message"]["text"], heard["mark"]


async def waits(server: BusServer) -> int:
    """How many requests wait at a server."""
    metrics = (await asyncio.to_thread(server.get, "/metrics"))[1].decode()
    lines = [
        line for line in metrics.splitlines() if line.startswith("arqonbus_connections{") and 'socket="waits"' in line
    ]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines)


async def test_the_first_visit_begins_now_and_each_message_comes_until_it_is_marked(
    shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    address = f"{fresh_room}:talk"
    token = await asyncio.to_thread(shared_server.create_token, f"robot-{fresh_room}")
    async with agent(shared_server, token=admin_token) as human, agent(shared_server, token=token) as robot:
        await human("publish", address=address, text="long ago")
        nothing = await robot("wait_for_message", address=address, timeout_seconds=0)
        assert nothing == {"message": None, "mark": 1, "skipped": 0}
        for text in ("one", "two", "three"):
            await human("publish", address=address, text=text)
        for _ in range(2):
            assert await next_text(robot, address) == ("one", 2)
        assert await next_text(robot, address, 2) == ("two", 3)
        assert await robot("mark", address=address, seq=3) == {"address": address, "mark": 3, "unread": 1}
        assert await next_text(robot, address, 1) == ("three", 4)
        assert await robot.refused("mark", address=address, seq=99) == "VALIDATION_ERROR"
        assert (await robot("mark", address=address, seq=1, back=True))["unread"] == 3
        heard = await robot("wait_for_message", address=address, contains="three", timeout_seconds=WAIT)
        assert (heard["message"]["text"], heard["skipped"], heard["mark"]) == ("three", 2, 4)
        none = await robot("wait_for_message", address=address, sender="nobody", timeout_seconds=0)
        assert none == {"message": None, "mark": 4, "skipped": 3}


async def test_a_wait_hears_what_comes_meanwhile(shared_server: BusServer, admin_token: str, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    token = await asyncio.to_thread(shared_server.create_token, f"robot-{fresh_room}")
    async with agent(shared_server, token=admin_token) as human, agent(shared_server, token=token) as robot:
        await human("publish", address=address, text="long ago")
        assert (await robot("wait_for_message", address=address, timeout_seconds=0))["mark"] == 1
        waiting = asyncio.create_task(
            robot("wait_for_message", address=address, contains="signal", timeout_seconds=WAIT)
        )
        await wait_for(lambda: waits(shared_server), "the request waits")
        await human("publish", address=address, text="noise")
        own = (await robot("append", address=address, text="I am thinking"))["of"]
        of = (await human("append", address=address, text="the sig"))["of"]
        await human("publish", address=address, text="a signal while an answer grows")
        heard = await waiting
        assert (heard["message"]["text"], heard["mark"]) == ("a signal while an answer grows", 5)
        ending = asyncio.create_task(next_text(robot, address, heard["mark"]))
        await wait_for(lambda: waits(shared_server), "the request waits for the end of the answer")
        await human("append", of=of, text="nal", end="complete")
        assert await ending == ("the signal", 6)
        again = await robot("wait_for_message", address=address, timeout_seconds=WAIT)
        assert (again["message"]["seq"], again["message"]["state"]) == (6, "complete")
        await robot("append", of=own, text="!", end="complete")
        nothing = await robot("wait_for_message", address=address, mark=6, timeout_seconds=0)
        assert nothing["message"] is None


async def test_reading_an_unknown_channel_makes_nothing(
    shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    token = await asyncio.to_thread(shared_server.create_token, f"robot-{fresh_room}")
    async with agent(shared_server, token=token) as robot:
        address = f"{fresh_room}:typo"
        for tool, given in (("wait_for_message", {"timeout_seconds": 0}), ("mark", {"seq": 0}), ("history", {})):
            assert await robot.refused(tool, address=address, **given) == "CHANNEL_NOT_FOUND"
        assert await robot.refused("who_is_there", address=address) == "CHANNEL_NOT_FOUND"


async def test_an_inbox_waits_for_who_has_been_there_once(
    shared_server: BusServer, admin_token: str, fresh_room: str
) -> None:
    name = f"robot-{fresh_room}"
    token = await asyncio.to_thread(shared_server.create_token, name)
    async with agent(shared_server, token=admin_token) as human, agent(shared_server, token=token) as robot:
        assert await human.refused("publish", to=[name], text="too early") == "TARGET_NOT_FOUND"
        now = await robot("wait_for_message", address="inbox", timeout_seconds=0)
        assert now == {"message": None, "mark": 0, "skipped": 0}
        said = await human("publish", to=[name], text="psst")
        assert said["address"] == f"pm:{name}"
        assert await next_text(robot, "inbox") == ("psst", 1)
        assert await human.refused("wait_for_message", address=f"pm:{name}") == "CHANNEL_NOT_FOUND"
        assert await robot.refused("wait_for_message", address=f"{fresh_room}:*") == "INVALID_NAME"


def test_without_an_identity_the_agent_keeps_its_place_itself(shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    with Door(shared_server) as door:

        def heard(**given: object) -> dict[str, object]:
            answer = door.call("wait_for_message", address=address, timeout_seconds=0, **given)
            result: dict[str, object] = answer.json()["result"]["structuredContent"]
            return result

        door.call("publish", address=address, text="one")
        assert heard() == {"message": None, "mark": 1, "skipped": 0}
        # It said this itself.
        assert heard(mark=0) == {"message": None, "mark": 1, "skipped": 0}


async def test_a_cancelled_wait_and_a_server_that_stops_cost_nothing(
    start_server: StartServer, fresh_room: str
) -> None:
    server = await asyncio.to_thread(start_server)
    address = f"{fresh_room}:talk"
    tokens = [await asyncio.to_thread(server.create_token, name) for name in ("human", "robot")]
    async with agent(server, token=tokens[0]) as human, agent(server, token=tokens[1]) as robot:
        await robot("publish", address=address, text="here")
        await robot("wait_for_message", address=address, timeout_seconds=0)
        waiting = asyncio.create_task(robot("wait_for_message", address=address, timeout_seconds=WAIT))
        await wait_for(lambda: waits(server), "the request waits")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await wait_for(lambda: gone(server), "the wait ends with its client")
        await human("publish", address=address, text="one")
        assert await next_text(robot, address) == ("one", 2)
        await robot("mark", address=address, seq=2)
        waiting = asyncio.create_task(robot("wait_for_message", address=address, timeout_seconds=WAIT))
        await wait_for(lambda: waits(server), "the request waits")
        await asyncio.to_thread(server.terminate)
        assert await waiting == {"message": None, "mark": 2, "skipped": 0}


async def gone(server: BusServer) -> bool:
    return await waits(server) == 0


@pytest.mark.embedded
async def test_a_token_that_is_revoked_ends_its_wait(shared_server: BusServer, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    token = await asyncio.to_thread(shared_server.create_token, f"robot-{fresh_room}")
    async with agent(shared_server, token=token) as robot:
        await robot("publish", address=address, text="here")
        await robot("wait_for_message", address=address, timeout_seconds=0)
        waiting = asyncio.create_task(robot.refused("wait_for_message", address=address, timeout_seconds=WAIT))
        await wait_for(lambda: waits(shared_server), "the request waits")
        await asyncio.to_thread(shared_server.manage, "tokens", "revoke", f"robot-{fresh_room}")
        assert await waiting in ("REVOKED", "FORBIDDEN")
