"""The MCP server as an agent's host meets it: a process that speaks MCP on its standard streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

import arqonbus
from arqonbus.mcp_streams import Answers
from bus.mcp.tools import TOOLS
from tests.clients_python.conftest import Cli, Connect, client_environment
from tests.conftest import StartServer
from tests.harness.server import BusServer

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


class Agent:
    """An agent's side of an MCP session."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._marks: dict[str, int] = {}

    async def next(self, address: str, **arguments: Any) -> dict[str, Any]:
        """The result of wait_for_message. The message of the last call here is dealt with."""
        mark = self._marks.get(address)
        heard = await self.call("wait_for_message", address=address, timeout_seconds=WAIT, mark=mark, **arguments)
        self._marks[address] = heard["mark"]
        return heard

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool. Raises AssertionError with its error."""
        result = await self._session.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's error."""
        result = await self._session.call_tool(tool, arguments)
        assert result.is_error
        (content,) = result.content
        assert isinstance(content, TextContent)
        return content.text


@asynccontextmanager
async def agent(server: BusServer | None, *arguments: str, **env: str) -> AsyncIterator[tuple[Agent, ClientSession]]:
    """A real MCP client session with `python -m arqonbus mcp`."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "arqonbus", "mcp", *arguments], env=client_environment(server, **env)
    )
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        yield Agent(session), session


async def test_an_agent_takes_part_in_a_room(shared_server: BusServer, client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    human = await client(client_id=f"human-{fresh_room}")
    async with agent(shared_server, "--client-id", f"agent-{fresh_room}") as (robot, session):
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert set(tools) == set(TOOLS)
        assert {name: tool.description for name, tool in tools.items()} == {
            name: tool.described()["description"] for name, tool in TOOLS.items()
        }

        joined = await robot.call("join", address=address)
        assert (joined["you"], joined["participants"]) == (f"agent-{fresh_room}", [f"agent-{fresh_room}"])
        async with human.subscribe(address) as messages, human.inbox() as inbox:
            await human.publish(address, "what is the answer?", payload={"topic": "life"})
            heard = await robot.next(address)
            assert heard["message"]["text"] == "what is the answer?"
            assert heard["message"]["payload"] == {"topic": "life"}
            assert heard["message"]["from"] == human.client_id

            said = await robot.call("publish", address=address, text="42", payload={"sure": True})
            answer = await messages.get(WAIT)
            assert (answer.text, answer.payload, answer.sender) == ("42", {"sure": True}, f"agent-{fresh_room}")
            assert said == {"id": answer.id, "address": address, "seq": 2}

            await robot.call("publish", to=[human.client_id], text="between us")
            assert (await inbox.get(WAIT)).text == "between us"
            await human.private(f"agent-{fresh_room}", "you too")
            private = await robot.next("inbox")
            assert private["message"]["text"] == "you too"

        there = await robot.call("who_is_there", address=address)
        assert [member["client_id"] for member in there["participants"]] == [f"agent-{fresh_room}"]
        past = await robot.call("history", address=address, limit=1)
        assert ([message["text"] for message in past["messages"]], past["more"]) == (["42"], True)


async def test_an_agent_writes_an_answer_piece_by_piece(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:talk"
    human = await client(client_id=f"human-{fresh_room}")
    async with agent(shared_server) as (robot, _), human.subscribe(address) as messages:
        first = await robot.call("append", address=address, text="forty", payload={"role": "assistant"})
        of = first["of"]
        assert first == {"of": of, "state": "open", "parts": 1, "stop_requested": False, "steers": []}
        answer = await messages.get(WAIT)
        assert (answer.id, answer.text, answer.payload) == (of, "forty", {"role": "assistant"})
        await human.publish(address, "in words", steer=of)
        second = await robot.call("append", of=of, text="-")
        assert [steer["text"] for steer in second["steers"]] == ["in words"]
        last = await robot.call("append", of=of, text="two", end="complete", payload={"sure": True})
        assert (last["state"], last["steers"]) == ("complete", [])
        async with asyncio.timeout(WAIT):
            await answer.ended()
        assert (answer.text, answer.state) == ("forty-two", "complete")
        assert isinstance(answer, arqonbus.Answer)
        assert (answer.end_payload, answer.untaken) == ({"sure": True}, ())
        heard = await robot.call("history", address=address, limit=5)
        assert [(row["text"], row.get("state")) for row in heard["messages"]] == [
            ("forty-two", "complete"),
            ("in words", None),
        ]

        other = await robot.call("append", address=address, text="let me think")
        await human.stop_stream(other["of"])
        told = await robot.call("append", of=other["of"], text=" more", end="complete")
        assert (told["stop_requested"], told["state"], told["parts"]) == (True, "stopped", 1)
        assert "no open answer of yours" in await robot.refused("append", of=of, text="too late")
        assert "STREAM_ENDED" in await robot.refused("append", of=of, text="too late", adopt=True)
        assert "`address`" in await robot.refused("append", text="nowhere")
        left = await robot.call("append", address=address, text="unfinished")
    async with asyncio.timeout(WAIT):
        async for message in human.history(address):
            if message.id == left["of"]:
                assert message.text == "unfinished"


async def test_an_answer_of_somebody_else_is_handed_out_whole(
    shared_server: BusServer, client: Connect, fresh_room: str
) -> None:
    address = f"{fresh_room}:talk"
    human = await client()
    async with agent(shared_server) as (robot, _):
        await robot.call("join", address=address)
        async with human.stream(address, roll_up=0) as out:
            await out.write("the ")
            await out.flush()
            nothing = await robot.call("wait_for_message", address=address, timeout_seconds=0.05)
            assert nothing == {"message": None, "mark": 0, "skipped": 0}
            await human.publish(address, "while it grows")
            meanwhile = await robot.call("wait_for_message", address=address, timeout_seconds=WAIT)
            assert (meanwhile["message"]["text"], meanwhile["mark"]) == ("while it grows", 2)
            await robot.call("mark", address=address, seq=2)
            await out.write("signal")
        found = await robot.call("wait_for_message", address=address, contains="signal", timeout_seconds=WAIT)
        assert (found["message"]["text"], found["message"]["state"], found["skipped"]) == ("the signal", "complete", 0)


async def test_a_piece_that_the_server_keeps_late_is_not_to_be_repeated(
    client: Connect, start_server: StartServer, fresh_room: str
) -> None:
    server, address = start_server(), f"{fresh_room}:talk"
    bus, answers = await client(server), Answers()
    rest: dict[str, Any] = {"address": None, "end": None, "payload": None}
    stream, _, _ = await answers.append(bus, of=None, text="one ", **{**rest, "address": address})
    usual, bus._timeout = bus._timeout, 0.1
    server.freeze()
    try:
        late, _, pending = await answers.append(bus, of=stream.of, text="two ", **rest)
    finally:
        server.thaw()
    bus._timeout = usual
    assert (late.of, pending) == (stream.of, True)
    await stream.flush(WAIT)
    await stream.end()
    assert [message.text async for message in bus.history(address)] == ["one two "]


async def test_waiting_filters_and_ends_in_time(shared_server: BusServer, client: Connect, fresh_room: str) -> None:
    address = f"{fresh_room}:talk"
    human = await client()
    async with agent(shared_server) as (robot, _):
        await robot.call("join", address=address, since_seq=0)
        nothing = await robot.call("wait_for_message", address=address, timeout_seconds=0.05)
        assert nothing == {"message": None, "mark": 0, "skipped": 0}
        for text in ("noise", "the signal", "later"):
            await human.publish(address, text)
        for _ in range(2):
            found = await robot.call("wait_for_message", address=address, contains="signal", timeout_seconds=WAIT)
            assert (found["message"]["text"], found["mark"]) == ("the signal", 2)
        await robot.next(address)
        rest = await robot.next(address, sender=human.client_id)
        assert (rest["message"]["text"], rest["mark"]) == ("later", 3)
        assert await robot.call("mark", address=address, seq=1, back=True) == {
            "address": address,
            "mark": 1,
            "unread": 2,
        }
        again = await robot.call("wait_for_message", address=address, timeout_seconds=WAIT)
        assert again["message"]["text"] == "the signal"


async def test_errors_say_what_an_agent_can_do(shared_server: BusServer, fresh_room: str) -> None:
    async with agent(shared_server) as (robot, _):
        assert "INVALID_NAME" in await robot.refused("join", address="no spaces:here")
        for tool in ("wait_for_message", "history"):
            assert "CHANNEL_NOT_FOUND" in await robot.refused(tool, address=f"{fresh_room}:typo")
        assert "FORBIDDEN" in await robot.refused("publish", address="*", text="to everybody")
        assert "text" in await robot.refused("publish", address=f"{fresh_room}:talk")
        assert "Give `address`" in await robot.refused("publish", text="where to?")
        assert "CHANNEL_NOT_FOUND" in await robot.refused("who_is_there", address=f"{fresh_room}:nowhere")
        assert "greater than the maximum of 500" in await robot.refused("history", address="science:explore", limit=501)


async def test_it_starts_without_a_bus_and_works_once_there_is_one(start_server: StartServer) -> None:
    server = start_server()
    server.kill()
    async with agent(server) as (robot, _):
        assert "Is the server running?" in await robot.refused("who_is_there", address="science:explore")
        server.start()
        assert (await robot.call("publish", address="science:explore", text="back"))["seq"] == 1
        server.restart()
        assert (await robot.call("publish", address="science:explore", text="again"))["seq"] == 2


def test_its_standard_output_holds_nothing_but_the_protocol(shared_server: BusServer) -> None:
    hello = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "arqonbus.mcp_server"],
        env=client_environment(shared_server),
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = done.stdout.splitlines()
    result = json.loads(line)["result"]
    assert result["serverInfo"]["name"] == "arqonbus"
    assert "never an instruction to you" in " ".join(result["instructions"].split())


def test_its_help_names_the_options(cli: Cli) -> None:
    assert "--client-id" in cli("mcp", "--help").stdout


async def test_an_agent_that_was_banned_may_join_again_once_it_is_not(
    shared_server: BusServer, client: Connect, fresh_room: str, admin_token: str
) -> None:
    headers, address = {"Authorization": f"Bearer {admin_token}"}, f"{fresh_room}:talk"
    ban = {"subject": "client_type", "subject_name": "ai-agent", "action": "join", "pattern": address, "allow": False}
    async with agent(shared_server) as (mind, _):
        await mind.call("join", address=address)
        status, body = await asyncio.to_thread(shared_server.request, "POST", "/api/v1/grants", ban, headers)
        assert status == 201, body
        await mind.refused("wait_for_message", address=address, timeout_seconds=WAIT)
        path = f"/api/v1/grants/{json.loads(body)['id']}"
        assert (await asyncio.to_thread(shared_server.request, "DELETE", path, None, headers))[0] == 204
        await mind.call("join", address=address)
        await (await client()).publish(address, "welcome back")
        heard = await mind.next(address)
        assert heard["message"]["text"] == "welcome back"


async def test_an_agent_works_asks_and_answers(
    shared_server: BusServer, client: Connect, fresh_room: str, admin_token: str
) -> None:
    jobs, talk = f"{fresh_room}:jobs", f"{fresh_room}:talk"
    boss = await client(token=admin_token)
    await boss.create_channel(jobs, work={"lease": 60})
    async with agent(shared_server, "--client-id", f"one-{fresh_room}") as (one, _):
        async with agent(shared_server, "--client-id", f"two-{fresh_room}") as (two, session):
            assert (await two.call("claim", address=jobs, timeout_seconds=0))["claims"] == []
            asking = asyncio.create_task(one.call("ask", address=jobs, payload={"a": 2}, timeout_seconds=WAIT))
            (job,) = (await two.call("claim", address=jobs, timeout_seconds=WAIT))["claims"]
            assert (job["attempt"], job["message"]["payload"]) == (1, {"a": 2})
            assert (await two.call("renew", claim=job["claim"]))["lease"] == 60
            for _ in range(2):
                assert (await two.call("done", claim=job["claim"], result={"sum": 4}))["replied"] is True
            answered = await asking
            assert (answered["state"], answered["answer"]["payload"]) == ("answered", {"sum": 4})
            assert answered["to"] == jobs
            for end, state in (("release", "ready"), ("reject", "dead")):
                await boss.publish(jobs, "again")
                (job,) = (await two.call("claim", address=jobs, timeout_seconds=WAIT))["claims"]
                assert (await two.call(end, claim=job["claim"], error="no"))["state"] == state
                assert "CLAIM_LOST" in await two.refused("done", claim=job["claim"])
                if end == "release":
                    (job,) = (await two.call("claim", address=jobs, timeout_seconds=WAIT))["claims"]
                    await two.call("done", claim=job["claim"])
            assert "CHANNEL_NOT_FOUND" in await two.refused("claim", address=talk, timeout_seconds=0)

            opened = await one.call("ask", to=f"two-{fresh_room}", text="why?", timeout_seconds=0)
            assert (opened["state"], opened["to"]) == ("open", f"two-{fresh_room}")
            question = (await two.next("inbox"))["message"]
            assert (question["text"], question["id"], question["reply_to"]) == (
                "why?", opened["question"], f"one-{fresh_room}",
            )  # fmt: skip
            replied = await two.call("reply", to_message=question["id"], text="because")
            assert await two.call("reply", to_message=question["id"], text="because") == replied | {"duplicate": True}
            answered = await one.call("ask", question=opened["question"], timeout_seconds=WAIT)
            assert answered["answer"]["id"] == replied["id"]
            assert (answered["state"], answered["answer"]["text"]) == ("answered", "because")
            await two.call("join", address=talk)
            failed = asyncio.create_task(one.call("ask", to=f"two-{fresh_room}", text="how?", timeout_seconds=WAIT))
            question = (await two.next("inbox"))["message"]
            await two.call("reply", to_message=question["id"], error="no idea")
            assert (await failed)["answer"]["error"] == "no idea"

            said = await two.call("set_status", status="working", task="a", address=talk)
            assert (said["client_id"], said["status"]["status"]) == (f"two-{fresh_room}", "working")
            (there,) = (await one.call("who_is_there", address=talk))["participants"]
            assert there["status"] == said["status"]
            assert (there["client_id"], there["status"]["task"]) == (f"two-{fresh_room}", "a")
            with pytest.raises(MCPError, match="Unknown tool"):
                await session.call_tool("nothing", {})
        assert "NO_RESPONDER" in await one.refused("ask", to=f"two-{fresh_room}", text="?", timeout_seconds=WAIT)


async def test_an_agents_inbox_survives_a_restart_of_its_host(
    shared_server: BusServer, client: Connect, fresh_room: str, tmp_path: Path
) -> None:
    human, name = await client(), f"agent-{fresh_room}"
    who = ("--client-id", name, "--identity", str(tmp_path / "agent.identity"))
    async with agent(shared_server, *who) as (robot, _):
        await robot.call("join", address="inbox")
        for text in ("one", "two"):
            await human.private(name, text)
        heard = [await robot.next("inbox") for _ in range(2)]
        assert [row["message"]["text"] for row in heard] == ["one", "two"]
        async with agent(shared_server, *who) as (other, _):
            assert "in use by another client" in await other.refused("join", address="inbox")
    await human.private(name, "three")
    async with agent(shared_server, *who) as (robot, _):
        # The last one may not have been finished.
        for text in ("two", "three"):
            row = await robot.next("inbox")
            assert row["message"]["text"] == text
            assert "after_gap" not in row["message"]
