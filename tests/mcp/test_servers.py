"""The door behind a balancer without stickiness: daphne, uvicorn and gunicorn, two processes in turn, and kill -9.

The official client calls every tool. A server is killed between a call and its answer, and the call is repeated at the other.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import pytest

import arqonbus
from bus.mcp.tools import TOOLS
from tests.harness.backends import Backends, Storage
from tests.harness.server import BusServer
from tests.mcp.conftest import Agent, Door, agent

WAIT = 20

Kind = Literal["daphne", "uvicorn", "gunicorn"]


class Gunicorn(BusServer):
    """Gunicorn with its own ASGI worker, which the bus has no adapter for."""

    def _command(self) -> list[str]:
        bind = f"{self.host}:{self.port}"
        options = ["-k", "asgi", "-b", bind, "--no-control-socket", "--graceful-timeout", "5"]
        return [sys.executable, "-m", "gunicorn", *options, "arqonbus_site.asgi:application"]


@pytest.fixture(
    params=[
        "daphne",
        pytest.param("uvicorn", marks=pytest.mark.cluster),
        pytest.param("gunicorn", marks=pytest.mark.cluster),
    ]
)
def pair(request: pytest.FixtureRequest, backends: Backends, storage: Storage) -> Iterator[list[BusServer]]:
    """Two processes of one server on one database."""
    kind: Kind = request.param
    made: list[BusServer] = []
    for _ in range(2):
        folder = backends.new_path("server")
        if kind == "gunicorn":
            made.append(Gunicorn(storage, folder, secret_key=backends.secret_key))
        else:
            made.append(BusServer(storage, folder, secret_key=backends.secret_key, kind=kind))
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()


async def test_every_tool_works_at_two_servers_in_turn(pair: list[BusServer], fresh_room: str) -> None:
    talk, jobs = f"{fresh_room}:talk", f"{fresh_room}:jobs"
    admin = await asyncio.to_thread(pair[0].create_token, "admin", admin=True)
    tokens = [await asyncio.to_thread(pair[0].create_token, name) for name in ("one", "two")]
    async with arqonbus.connect(pair[0].url, token=admin) as bus:
        await bus.create_channel(talk)
        await bus.create_channel(jobs, work=True)
    async with (
        agent(*pair, token=tokens[0]) as one,
        agent(*pair[::-1], token=tokens[1]) as two,
        agent(*pair, token=admin) as person,
    ):
        called: set[str] = set()

        async def call(who: Agent, tool: str, **arguments: Any) -> dict[str, Any]:
            called.add(tool)
            return await who(tool, **arguments)

        for who in (one, two):
            assert (await call(who, "wait_for_message", address="inbox", timeout_seconds=0))["message"] is None
            assert (await call(who, "wait_for_message", address=talk, timeout_seconds=0))["mark"] == 0
        # Whoever waits at one server hears what the other one publishes.
        waiting = asyncio.create_task(call(two, "wait_for_message", address=talk, timeout_seconds=WAIT))
        said = await call(one, "publish", address=talk, text="hello", id="h")
        assert (await waiting)["message"]["id"] == said["id"]
        assert (await call(two, "mark", address=talk, seq=1))["unread"] == 0
        of = (await call(one, "append", address=talk, text="grow", id="g"))["of"]
        await call(one, "append", of=of, n=2, text="ing", end="complete")
        past = await call(two, "history", address=talk)
        assert [row["text"] for row in past["messages"]] == ["hello", "growing"]
        claiming = asyncio.create_task(call(two, "claim", address=jobs, timeout_seconds=WAIT))
        asking = asyncio.create_task(call(one, "ask", address=jobs, text="job 1", timeout_seconds=WAIT))
        (job,) = (await claiming)["claims"]
        await call(two, "renew", claim=job["claim"])
        await call(two, "done", claim=job["claim"], result={"sum": 3})
        assert (await asking)["answer"]["payload"] == {"sum": 3}
        for end in ("release", "reject"):
            await one("publish", address=jobs, text=end)
            (job,) = (await two("claim", address=jobs, timeout_seconds=WAIT))["claims"]
            await call(two, end, claim=job["claim"], **({"delay": 60} if end == "release" else {}))
        asking = asyncio.create_task(call(one, "ask", to="two", text="?", durable=True, timeout_seconds=WAIT))
        question = (await two("wait_for_message", address="inbox", timeout_seconds=WAIT))["message"]
        await call(two, "reply", to_message=question["id"], text="!")
        assert (await asking)["answer"]["text"] == "!"
        said = await call(one, "set_status", status="working", address=talk)
        assert (said["client_id"], said["status"]["status"]) == ("one", "working")
        (there,) = (await call(two, "who_is_there", address=talk))["participants"]
        assert (there["client_id"], there["status"]["status"]) == ("one", "working")
        question = {"address": talk, "title": "Pay?", "action": "pay", "args": {"sum": 3}}
        asked = (await call(one, "request_decision", **question, key="k1", timeout_seconds=0))["decision"]
        waiting = asyncio.create_task(call(one, "await_decision", decision=asked, timeout_seconds=WAIT))
        (listed,) = (await call(person, "list_decisions", to_decide=True, address=talk))["decisions"]
        assert listed["decision"] == asked
        await call(person, "decide", decision=asked, answer="approve")
        assert (await waiting)["state"] == "approved"
        assert (await call(one, "consume_decision", decision=asked))["consumed_at"]
        asked = (await call(one, "request_decision", **question, key="k2", timeout_seconds=0))["decision"]
        assert (await call(one, "cancel_decision", decision=asked))["state"] == "cancelled"
        assert called == {name for name, tool in TOOLS.items() if tool.stateless}
    for server in pair:
        assert "Traceback" not in server.log()


async def test_a_server_killed_between_call_and_answer_doubles_nothing(pair: list[BusServer], fresh_room: str) -> None:
    talk, jobs = f"{fresh_room}:talk", f"{fresh_room}:jobs"
    first, second = pair
    admin = await asyncio.to_thread(first.create_token, "admin", admin=True)
    token = await asyncio.to_thread(first.create_token, "robot")
    async with arqonbus.connect(first.url, token=admin) as bus:
        await bus.create_channel(jobs, work=True)
    with Door(first, token) as at_first, Door(second, token) as at_second:

        def call(door: Door, tool: str, **arguments: Any) -> dict[str, Any]:
            result: dict[str, Any] = door.call(tool, **arguments).json()["result"]
            assert not result["isError"], result
            told: dict[str, Any] = result["structuredContent"]
            return told

        def work() -> None:
            call(at_first, "publish", address=jobs, text="once")
            (job,) = call(at_first, "claim", address=jobs, timeout_seconds=0)["claims"]
            of = call(at_first, "append", address=talk, text="a", id="stream")["of"]
            calls: list[tuple[str, dict[str, Any]]] = [
                ("publish", {"address": talk, "text": "said once", "id": "p"}),
                ("done", {"claim": job["claim"], "result": {"n": 1}}),
                ("append", {"of": of, "n": 2, "text": "b"}),
                ("append", {"address": talk, "text": "a", "id": "stream"}),
            ]
            # The answers get lost: each call is sent, and its connection closed without a look at the answer.
            for tool, arguments in calls:
                _unheard(at_first, tool, arguments)
            first.kill()
            for tool, arguments in calls:
                call(at_second, tool, **arguments)
            assert call(at_second, "claim", address=jobs, timeout_seconds=0, have=[]) == {"claims": [], "ready": 0}
            messages = call(at_second, "history", address=talk)["messages"]
            assert sorted(row["text"] for row in messages) == ["ab", "said once"]

        await asyncio.to_thread(work)


def _unheard(door: Door, tool: str, arguments: dict[str, Any]) -> None:
    """Send a call, and go away without its answer."""
    made: list[httpx.Request] = []

    class Noted(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            made.append(request)
            return httpx.Response(200, json={})

    noting = Door.__new__(Door)
    noting.http = httpx.Client(base_url=door.http.base_url, headers=door.http.headers, transport=Noted())
    noting.call(tool, **arguments)
    noting.http.close()
    (request,) = made
    lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items()), "", ""]
    with socket.create_connection((request.url.host, request.url.port or 80), timeout=WAIT) as line:
        line.sendall("\r\n".join(lines).encode() + request.content)
