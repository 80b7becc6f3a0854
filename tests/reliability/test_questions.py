"""Questions while everything else goes on: restarts of both sides and of servers, kills, and many askers at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends
from tests.harness.client import WireClient, WireError, new_id
from tests.harness.waiting import wait_for

#: A killed process is given up after this.
SHORT = {"ARQONBUS_NODE_HEARTBEAT": "0.5", "ARQONBUS_NODE_TIMEOUT": "3"}


async def ask(client: WireClient, to: str, message_id: str, **ask: Any) -> dict[str, Any]:
    """Ask somebody; the ack. Raises WireError."""
    return await client.publish(type="private", to=to, message_id=message_id, payload={"a": 1}, ask=ask, ack=True)


async def timed_out(client: WireClient, to: str, message_id: str, **keys: Any) -> bool:
    """Whether a question that is asked again has ended without an answer."""
    try:
        await ask(client, to, message_id, **keys)
    except WireError as problem:
        return str(problem.frame["error"]["code"]) == "ASK_TIMEOUT"
    return False


async def test_a_durable_question_outlives_its_asker_its_responder_and_the_server(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server, env=SHORT)
    adder = await WireClient.connect(server.url, client_id="adder", room="lab:bench")
    asker = await WireClient.connect(server.url, client_id="asker", room="lab:door")
    await adder.cut()
    await ask(asker, "adder", "q1", timeout=600, durable=True)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with await adder.reconnect(url=server.url) as back:
        question = await back.expect(type="private", id="arq_q1")
        await back.publish(
            ack=True,
            message_id="r1",
            type="reply",
            to_message="arq_q1",
            reply_to=question["reply_to"],
            payload={"n": 1},
        )
    await asyncio.to_thread(server.restart, graceful=True)
    async with await asker.reconnect(url=server.url) as again:
        reply = await again.expect(type="reply")
        assert (reply["to_message"], reply["correlation"], reply["payload"]) == ("arq_q1", "q1", {"n": 1})
        # The same question once more asks nothing new.
        assert (await ask(again, "adder", "q1", timeout=600, durable=True))["duplicate"] is True
        await again.expect_nothing(type="reply")
        # Its responder is away again, and nobody else may answer for it.
        with pytest.raises(WireError, match="NO_RESPONDER"):
            await ask(again, "adder", "q2")


async def test_a_deadline_passes_while_the_server_is_down(start_server: StartServer) -> None:
    server = await asyncio.to_thread(start_server, env=SHORT)
    adder = await WireClient.connect(server.url, client_id="adder", room="lab:bench")
    asker = await WireClient.connect(server.url, client_id="asker", room="lab:door")
    await ask(asker, "adder", "q1", timeout=0.3)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with await asker.reconnect(url=server.url) as back, await adder.reconnect(url=server.url) as late:
        await wait_for(lambda: timed_out(back, "adder", "q1", timeout=0.3), "who asks again hears that nobody answered")
        with pytest.raises(WireError, match="QUESTION_ENDED"):
            await late.publish(ack=True, type="reply", to_message="arq_q1", payload={})
        await back.expect_nothing(type="reply")


@pytest.mark.cluster
async def test_an_asker_hears_of_the_deadline_wherever_it_is(start_server: StartServer) -> None:
    """It asked through one process and came back to the other. The one that it asked through is killed before the deadline."""
    first = await asyncio.to_thread(start_server, env=SHORT)
    second = await asyncio.to_thread(start_server, env=SHORT)
    async with await WireClient.connect(second.url, client_id="silent", room="lab:bench"):
        asker = await WireClient.connect(first.url, client_id="asker", room="lab:door")
        await ask(asker, "silent", "told", timeout=3)
        async with await asker.reconnect(url=second.url) as back:
            assert (await back.expect(type="error", request_id="told"))["error"]["code"] == "ASK_TIMEOUT"
            await ask(back, "silent", "killed", timeout=2)
            other = await WireClient.connect(first.url, client_id="other", room="lab:door")
            await ask(other, "silent", "orphan", timeout=2)
            await asyncio.to_thread(first.kill)
            assert (await back.expect(type="error", request_id="killed"))["error"]["code"] == "ASK_TIMEOUT"
            async with await other.reconnect(url=second.url) as late:
                await wait_for(
                    lambda: timed_out(late, "silent", "orphan", timeout=2),
                    "the second process ends what the first began",
                )


async def sure(client: WireClient, message_id: str, **frame: Any) -> None:
    """Publish as clients do: what a busy database refuses is sent again with the same id."""
    while True:
        try:
            await client.publish(ack=True, message_id=message_id, timeout=60, **frame)
        except WireError as problem:
            if problem.frame["error"]["code"] != "UNAVAILABLE":
                raise
        else:
            return


@pytest.mark.parametrize(
    ("people", "rounds"), [(10, 5), pytest.param(50, 20, marks=pytest.mark.chaos)], ids=["a few", "a thousand"]
)
async def test_each_answer_reaches_its_asker_only(
    start_server: StartServer, wire: Connect, people: int, rounds: int, backends: Backends
) -> None:
    """Everybody asks and answers everybody, over two processes where there are two. Half of them choose the same ids."""
    servers = [await asyncio.to_thread(start_server)]
    if backends.name == "cluster":
        servers.append(await asyncio.to_thread(start_server))
    clients = [await wire(servers[n % len(servers)], client_id=f"c{n}", room=f"lab:{n}") for n in range(people)]

    async def answers(client: WireClient) -> None:
        for _ in range(rounds):
            question = await client.expect(type="private", timeout=120)
            await sure(
                client,
                new_id(),
                type="reply",
                to_message=question["id"],
                reply_to=question["reply_to"],
                payload={"for": question["reply_to"], "n": question["payload"]["n"]},
            )

    async def asks(index: int) -> None:
        client, wanted = clients[index], set()
        for n in range(rounds):
            to = clients[(index + n + 1) % people].client_id
            message_id = f"q{n}" if index % 2 else new_id()
            await sure(client, message_id, type="private", to=to, payload={"n": n}, ask={"timeout": 300})
            wanted.add((message_id, n, client.client_id))
        replies = await client.expect_all(rounds, type="reply", timeout=120)
        assert {(reply["correlation"], reply["payload"]["n"], reply["payload"]["for"]) for reply in replies} == wanted

    await asyncio.gather(*map(answers, clients), *map(asks, range(people)))
