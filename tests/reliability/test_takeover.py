"""A client id has one connection, and one order says which: that of the claims in the database, in every process."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from bus.models import Client
from bus.node import Node, current
from bus.node.batch import Batcher
from bus.notify import messages as notifications
from bus.servers.portable import PortableWriter
from bus.testing import LiveBus, TestClient
from tests.conftest import StartServer
from tests.harness.backends import Storage
from tests.harness.client import WireClient
from tests.harness.waiting import wait_for
from tests.reliability.traffic import query

ID = "ada"
#: Two nodes in one process have more threads than the pool of connections of one process.
IN_ONE_PROCESS = pytest.mark.embedded


class Process:
    """One of two nodes in the test's loop, with a database that can be held up and notifications that wait."""

    def __init__(self, node: Node, bus: TwoProcesses) -> None:
        self.node = node
        self.bus = bus
        self.open = threading.Event()
        self.open.set()
        work = node.presence_tables._work

        def held(operations: Any) -> list[Any]:
            assert self.open.wait(20)
            return work(operations)

        node.presence_tables._work = held
        self._hear = node.receive_threadsafe
        node.receive_threadsafe = self._wait  # type: ignore[method-assign]

    def _wait(self, notification: notifications.Notification, *, pass_on: bool) -> None:
        if isinstance(notification, notifications.Dismiss):
            self.bus.waiting.append((self, notification))

    def deliver(self, notification: notifications.Notification) -> None:
        self.node.notifications.receive(notification)


class TwoProcesses:
    """Two nodes on one database, whose notices to each other come when the test says so, in any order, or never."""

    def __init__(self, bus: LiveBus, nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = bus
        self.waiting: list[tuple[Process, notifications.Dismiss]] = []
        self.processes = [Process(node, self) for node in nodes]
        self.token: str | None = None
        self.gone: set[int] = set()
        self._monkeypatch = monkeypatch

    async def begin(self, process: Process) -> TestClient:
        """A new connection to a process, which asks for the id with the token; nothing is waited for."""
        self._monkeypatch.setattr("bus.consumers.current", lambda: process.node)
        client = await self.bus.connect(register=False)
        resume = {"resume": {"token": self.token, "positions": {}}} if self.token else {}
        await client.send({"type": "register", "client_id": ID, "room": "lab:bench", **resume})
        return client

    async def answered(self, client: TestClient) -> None:
        await wait_for(lambda: client.close_code is not None or registered(client) is not None, "an answer")

    async def give_up(self, client: TestClient) -> None:
        """Its client closes it, and the server's transport knows, whatever its consumer waits for."""
        writer = next(
            state.writer
            for process in self.processes
            for state in process.node.clients.by_connection.values()
            if state.connection_id in str(client.frames[0]["payload"]["client_id"])
        )
        self.gone.add(id(writer))
        client._to_server.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def settle(self) -> None:
        """Nothing is under way, all notifications are lost, and the processes have compared their clients with the rows."""
        self.waiting.clear()
        for process in self.processes:
            process.open.set()
        for process in self.processes:
            await process.node.runtime.run_writer(lambda: None)
            for _ in range(2):
                await process.node.housekeeping.compare_presence()


def registered(client: TestClient) -> dict[str, Any] | None:
    """The payload of its registration's answer, once it is there."""
    return next(
        (frame["payload"] for frame in client.frames if frame.get("payload", {}).get("event") == "registered"), None
    )


def connection_of(client: TestClient) -> str:
    return str(client.frames[0]["payload"]["client_id"]).removeprefix("client-")


def holder() -> str:
    """The connection that the database says has the id."""
    return Client.objects.filter(client_id=ID).values_list("connection_id", flat=True).first() or ""


@pytest.fixture
async def two(live_bus: LiveBus, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TwoProcesses]:
    """Two nodes in the loop of the test."""
    second = Node()
    await current().start()
    await second.start()
    made = TwoProcesses(live_bus, [current(), second], monkeypatch)
    monkeypatch.setattr(PortableWriter, "disconnected", lambda self: self.closed or id(self) in made.gone)
    yield made
    await made.settle()
    await second.stop()


@IN_ONE_PROCESS
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seed", range(6))
async def test_the_newest_proof_wins_whatever_becomes_of_the_notices(two: TwoProcesses, seed: int) -> None:
    """Random claims at two processes, with databases that are held up, and notices that are late, crossed, doubled and lost."""
    chance = random.Random(seed)
    first = await two.begin(two.processes[0])
    await two.answered(first)
    two.token = (registered(first) or {})["resume_token"]
    clients = [first]
    for _ in range(25):
        match chance.choice(
            ["claim", "claim", "notify", "notify", "lose", "again", "hold", "go on", "give up", "compare"]
        ):
            case "claim":
                clients.append(await two.begin(chance.choice(two.processes)))
                await asyncio.sleep(0)
            case "notify" if two.waiting:
                process, notification = two.waiting.pop(chance.randrange(len(two.waiting)))
                process.deliver(notification)
            case "again" if two.waiting:
                process, notification = chance.choice(two.waiting)
                process.deliver(notification)
            case "lose" if two.waiting:
                two.waiting.pop(chance.randrange(len(two.waiting)))
            case "hold":
                chance.choice(two.processes).open.clear()
            case "go on":
                chance.choice(two.processes).open.set()
            case "give up":
                await two.give_up(chance.choice(clients[-2:]))
            case "compare":
                process = chance.choice(two.processes)
                if process.open.is_set():
                    await process.node.housekeeping.compare_presence()
    for process in two.processes:
        process.open.set()
    last = await two.begin(chance.choice(two.processes))
    await asyncio.gather(*(two.answered(client) for client in [*clients, last] if not client._task.done()))
    newest = await sync_to_async(holder)()
    await two.settle()
    # No proof was refused, and who has the id by the database was sent away by nobody.
    assert [client.close_code for client in clients if client.close_code == 4409] == []
    (kept,) = [client for client in [*clients, last] if connection_of(client) == newest]
    assert kept.close_code is None
    await kept.command("ping")
    # Nobody else is left, in any process.
    others = [client for client in [*clients, last] if client is not kept]
    await wait_for(lambda: all(c.close_code is not None or c._task.done() for c in others), "the end of the others")
    assert {client.close_code for client in others} <= {4410, 4013, 4012, None}
    assert await sync_to_async(holder)() == newest
    assert [state.connection_id for p in two.processes for state in p.node.clients.by_id.values()] == [newest]


@IN_ONE_PROCESS
@pytest.mark.django_db(transaction=True)
async def test_a_claim_that_was_held_up_until_its_client_went_elsewhere_takes_nothing(two: TwoProcesses) -> None:
    here, elsewhere = two.processes
    first = await two.begin(here)
    await two.answered(first)
    two.token = (registered(first) or {})["resume_token"]
    here.open.clear()
    late = await two.begin(here)
    await wait_for(lambda: here.node.presence_tables._running, "the claim on its way")
    await two.give_up(late)
    newest = await two.begin(elsewhere)
    await two.answered(newest)
    here.open.set()
    await wait_for(lambda: late._task.done() or late.close_code is not None, "the end of the late one")
    while two.waiting:
        process, notification = two.waiting.pop()
        process.deliver(notification)
    await two.settle()
    assert newest.close_code is None
    assert await sync_to_async(holder)() == connection_of(newest)


@IN_ONE_PROCESS
@pytest.mark.django_db(transaction=True)
async def test_of_two_claims_in_one_transaction_the_later_one_has_the_id(two: TwoProcesses) -> None:
    """The finding: the second one, with the very token, was answered 4409."""
    here = two.processes[0]
    first = await two.begin(here)
    await two.answered(first)
    two.token = (registered(first) or {})["resume_token"]
    here.open.clear()
    busy, one, other = [await two.begin(here) for _ in range(3)]
    await wait_for(
        lambda: len(here.node.presence_tables._waiting) == 2, "two claims that wait for the next transaction"
    )
    here.open.set()
    for client in (busy, one, other):
        await two.answered(client)
    await wait_for(lambda: {first.close_code, busy.close_code, one.close_code} == {4410}, "the end of the older ones")
    assert other.close_code is None
    assert await sync_to_async(holder)() == connection_of(other)


async def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    """Whoever was told that it failed does not find it done."""
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work(items: Sequence[str]) -> list[Any]:
        begun.set()
        assert go_on.wait(20)
        done.extend(items)
        return [None] * len(items)

    with ThreadPoolExecutor(1) as thread:
        batcher: Batcher[str] = Batcher(thread, work)
        first = batcher.submit("first")
        await asyncio.to_thread(begun.wait, 20)
        given_up, second = batcher.submit("given up"), batcher.submit("second")
        given_up.cancel()
        go_on.set()
        await asyncio.gather(first, second)
        assert done == ["first", "second"]
        # And where none of those who wait is left, the next one has its turn.
        begun.clear()
        go_on.clear()
        first = batcher.submit("third")
        await asyncio.to_thread(begun.wait, 20)
        batcher.submit("given up").cancel()
        go_on.set()
        await first
        await batcher.submit("fourth")
    assert done == ["first", "second", "third", "fourth"]


async def test_a_frozen_process_does_not_take_an_id_from_the_connection_that_came_after_it(
    start_server: StartServer, storage: Storage
) -> None:
    """Over real sockets: the client's frame lies in the frozen process's socket, and so does the end of the connection."""
    frozen = await asyncio.to_thread(start_server)
    other = await asyncio.to_thread(start_server)
    beside = await WireClient.connect(frozen.url, room="lab:bench")
    first = await WireClient.connect(other.url, client_id=ID, room="lab:bench")
    token = first.registered["resume_token"]
    waiting = await WireClient.connect(frozen.url, register=False)
    await waiting.expect(event="welcome")
    await asyncio.to_thread(frozen.freeze)
    try:
        await waiting.send({"client_id": ID, "room": "lab:bench", "resume": {"token": token, "positions": {}}})
        await waiting.cut()
        newest = await WireClient.connect(other.url, client_id=ID, room="lab:bench", resume={"token": token})
        assert await first.wait_closed() == 4410
    finally:
        await asyncio.to_thread(frozen.thaw)
    await beside.ping()
    # What it had taken in before is done when a later claim is.
    async with await WireClient.connect(frozen.url, room="lab:bench"):
        rows = await asyncio.to_thread(
            query, storage, f"SELECT connection_id FROM bus_client WHERE client_id = '{ID}' AND node_id IS NOT NULL"
        )
    assert rows == [(newest.welcome["client_id"].removeprefix("client-"),)]
    await newest.ping()
    await newest.close()
    await beside.close()
