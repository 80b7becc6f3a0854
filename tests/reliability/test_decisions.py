"""Decisions while everything else goes on: restarts of the asker and of servers, people who click at once, withdrawn rights."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer

QUESTION: dict[str, Any] = {
    "channel": "desk:refunds", "title": "Refund 20?", "action": "refund", "args": {"amount": 20},
    "allow": ["approve", "edit", "reject"],
}  # fmt: skip
FREE = {"ARQONBUS_RATE_LIMIT": "0"}


async def token(server: BusServer, name: str) -> str:
    """The token of a user, who may decide at the desk."""
    made = f"""
from django.contrib.auth import get_user_model
from bus.models import AccessToken, Grant
user = get_user_model().objects.create_user({name!r})
Grant.objects.create(subject="user", subject_name={name!r}, action="decide", pattern="desk:*")
print(AccessToken.issue({name!r}, user=user)[1])
"""
    return (await asyncio.to_thread(server.manage, "shell", "--verbosity", "0", "--command", made)).strip()


async def code_of(call: Any) -> str:
    """The code of an error; empty without one."""
    try:
        await call
    except WireError as problem:
        return str(problem.frame["error"]["code"])
    return ""


async def test_an_asker_gets_its_answer_over_restarts_of_both_sides(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server)
    agent = {"client_id": "agent", "token": await asyncio.to_thread(server.create_token, "agent"), "room": "lab:bench"}
    await token(server, "ann")
    asker = await wire(server, **agent)
    first = await asker.request("request_decision", key="one", **QUESTION)
    second = await asker.request("request_decision", key="two", **QUESTION)
    await asyncio.to_thread(server.restart)
    decided = f"""
from django.contrib.auth import get_user_model
from bus import services
from bus.auth.identity import from_user
ann = from_user(get_user_model().objects.get(username="ann"))
services.decide({first["decision"]!r}, "edit", args={{"amount": 10}}, comment="half", actor=ann)
services.decide({second["decision"]!r}, "approve", actor=ann)
"""
    # One agent waits for the answer to the first. No notification reaches it on SQLite, where the other process has no layer.
    again = await wire(server, **agent)
    waits = asyncio.ensure_future(again.request("await_decision", decision=first["decision"], wait=25, timeout=60))
    await asyncio.to_thread(server.manage, "shell", "--verbosity", "0", "--command", decided)
    told = await waits
    assert (told["state"], told["args"], told["asked_args"], told["by"]) == (
        "edited", {"amount": 10}, {"amount": 20}, "ann",
    )  # fmt: skip
    # It was away when the second was decided: it asks once more with its key.
    await again.cut()
    back = await wire(server, **agent)
    found = await back.request("request_decision", key="two", **QUESTION)
    assert (found["decision"], found["state"]) == (second["decision"], "approved")
    uses = [code_of(back.request("consume_decision", decision=found["decision"])) for _ in range(5)]
    assert sorted(await asyncio.gather(*uses)) == ["", *["ALREADY_USED"] * 4]


@pytest.mark.parametrize("clicks", [20, pytest.param(100, marks=pytest.mark.chaos)])
async def test_of_two_people_who_click_at_once_one_wins_and_the_other_is_told_who(
    start_server: StartServer, wire: Connect, backends: Backends, clicks: int
) -> None:
    servers = [await asyncio.to_thread(start_server, env=FREE)]
    if backends.name == "cluster":
        servers.append(await asyncio.to_thread(start_server, env=FREE))
    people = {name: await token(servers[0], name) for name in ("ann", "ben")}
    asker = await wire(servers[0], client_id="agent", room="lab:bench")
    ann, ben = [
        await wire(server, client_id=name, token=people[name], room="lab:desk")
        for server, name in ((servers[0], "ann"), (servers[-1], "ben"))
    ]

    async def click(person: WireClient, uid: str, answer: str) -> tuple[str, Any]:
        try:
            made = await person.request("decide", decision=uid, answer=answer, timeout=60)
        except WireError as problem:
            error = problem.frame["error"]
            assert error["code"] == "DECISION_ENDED"
            return "late", error["details"][0]
        return "first", made

    for number in range(clicks):
        asked = await asker.request("request_decision", key=f"k{number}", **QUESTION)
        # Sometimes the one is a little earlier, sometimes the other.
        both = [click(ann, asked["decision"], "approve"), click(ben, asked["decision"], "reject")]
        results = await asyncio.gather(*(both if number % 2 else reversed(both)))
        won = dict(results)
        assert won.keys() == {"first", "late"}, results
        assert (won["late"]["by"], won["late"]["state"]) == (won["first"]["by"], won["first"]["state"])
        assert (await asker.request("await_decision", decision=asked["decision"]))["by"] == won["first"]["by"]
    # A withdrawn right acts at once: without a signal or a notification, because the database alone says it.
    asked = await asker.request("request_decision", key="withdrawn", **QUESTION)
    gone = "from bus.models import Grant; Grant.objects.filter(action='decide')._raw_delete(using='default')"
    await asyncio.to_thread(servers[0].manage, "shell", "--verbosity", "0", "--command", gone)
    with pytest.raises(WireError, match="FORBIDDEN"):
        await ann.request("decide", decision=asked["decision"], answer="approve")


async def test_the_time_to_decide_ends_while_the_server_is_down(start_server: StartServer, wire: Connect) -> None:
    server = await asyncio.to_thread(start_server)
    asker = await wire(server, client_id="agent", room="lab:bench")
    asked = await asker.request("request_decision", key="a", expires=1, on_expiry="none", **QUESTION)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    late = await wire(server, client_id="other", room="lab:bench")
    told = await late.request("await_decision", decision=asked["decision"], wait=25, timeout=60)
    assert (told["state"], told["by"]) == ("expired", None)
