"""P29: workers and servers are killed and frozen, and each job is done once in effect."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends, Storage
from tests.harness.server import BusServer
from tests.harness.waiting import wait_for
from tests.harness.worker import WorkerProcess

GRACE = 1.0
#: Seconds that a busy machine may take longer than the promise of 2. The lease is much longer.
BUSY = 15.0
#: Servers that notice quickly that one of them is gone.
ENV = {"ARQONBUS_CLAIM_GRACE": str(GRACE), "ARQONBUS_NODE_HEARTBEAT": "0.5", "ARQONBUS_NODE_TIMEOUT": "2"}

#: Writes down what happens to jobs, by the database's own clock.
_SQLITE = """
    CREATE TABLE moves (seq INTEGER, was TEXT, became TEXT, claims INTEGER, worker TEXT, at REAL);
    CREATE TRIGGER watched AFTER UPDATE ON bus_job BEGIN
        INSERT INTO moves SELECT new.seq, old.state, new.state, new.claims, new.client_id,
            (julianday('now') - 2440587.5) * 86400.0;
    END
"""
_POSTGRES = """
    CREATE TABLE moves (n serial, seq bigint, was text, became text, claims int, worker text, at double precision);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO moves (seq, was, became, claims, worker, at)
        VALUES (new.seq, old.state, new.state, new.claims, new.client_id, extract(epoch FROM clock_timestamp()));
        RETURN NULL;
    END $$;
    CREATE TRIGGER watched AFTER UPDATE ON bus_job FOR EACH ROW EXECUTE FUNCTION watch()
"""


def query(storage: Storage, statement: str) -> list[Any]:
    """The rows of one statement, or of none."""
    if storage.database_url.startswith("sqlite"):
        with sqlite3.connect(storage.database_url.removeprefix("sqlite:///"), timeout=30) as lite:
            if statement == _SQLITE:
                lite.executescript(statement)
                return []
            return lite.execute(statement).fetchall()
    with psycopg.connect(storage.database_url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


class Yard:
    """A work channel over one server or two, with its workers."""

    def __init__(self, servers: list[BusServer], storage: Storage, backends: Backends) -> None:
        self.servers, self.storage, self._backends = servers, storage, backends
        self.workers: list[WorkerProcess] = []

    def hire(self, name: str = "") -> WorkerProcess:
        """Start one more worker. It begins with another server than the one before."""
        turn = len(self.workers) % len(self.servers)
        urls = [server.url for server in (*self.servers[turn:], *self.servers[:turn])]
        worker = WorkerProcess(self._backends.new_path("worker"), name or f"w{len(self.workers)}", urls, "lab", "jobs")
        self.workers.append(worker.start())
        return worker

    def heard(self, event: str) -> list[dict[str, Any]]:
        """What all workers said."""
        return [said for worker in self.workers for said in worker.events(event)]

    def states(self) -> Counter[str]:
        """How many jobs are in which state."""
        return Counter(dict(query(self.storage, "SELECT state, count(*) FROM bus_job GROUP BY state")))

    def moves(self) -> dict[int, list[tuple[str, str, int, str, float]]]:
        """What happened to each job, in order."""
        order = "rowid" if self.storage.database_url.startswith("sqlite") else "n"
        found: dict[int, list[tuple[str, str, int, str, float]]] = defaultdict(list)
        for seq, *move in query(
            self.storage, f"SELECT seq, was, became, claims, worker, at FROM moves ORDER BY {order}"
        ):
            found[seq].append(tuple(move))
        return found

    async def stop(self) -> None:
        """End the workers."""
        for worker in self.workers:
            await asyncio.to_thread(worker.process.kill)


async def yard_of(
    start_server: StartServer,
    storage: Storage,
    backends: Backends,
    wire: Connect,
    payloads: list[dict[str, Any]],
    **rule: Any,
) -> Yard:
    """A yard with these jobs."""
    count = 1 if storage.redis is None else 2
    servers = list(await asyncio.gather(*(asyncio.to_thread(start_server, env=ENV) for _ in range(count))))
    token = await asyncio.to_thread(servers[0].create_token, "boss", admin=True)
    boss = await wire(servers[0], headers={"Authorization": f"Bearer {token}"}, room="lab:door")
    await boss.request("create_channel", room="lab", channel="jobs", work=rule)
    # More at once would be more than the server lets wait for its log.
    for start in range(0, len(payloads), 500):
        sent = [
            boss.publish(room="lab", channel="jobs", payload=payload, ack=True, timeout=60)
            for payload in payloads[start : start + 500]
        ]
        await asyncio.gather(*sent)
    query(storage, _SQLITE if storage.database_url.startswith("sqlite") else _POSTGRES)
    return Yard(servers, storage, backends)


def assert_done_once(yard: Yard) -> None:
    """Each job has one claim that ended it, and no two claims of one job overlap."""
    done: dict[int, set[str]] = defaultdict(set)
    for said in yard.heard("done"):
        done[said["seq"]].add(said["claim"])
    assert all(len(claims) == 1 for claims in done.values())
    for seq, moves in yard.moves().items():
        changes = [(was, became, claims) for was, became, claims, _, _ in moves if was != became]
        assert [became for _, became, _ in changes].count("done") == 1, (seq, moves)
        # A claim begins where no other one runs, and each has a number of its own.
        assert all(was == "ready" for was, became, _ in changes if became == "claimed"), (seq, moves)
        begun = [claims for _, became, claims in changes if became == "claimed"]
        assert begun == sorted(set(begun)), (seq, moves)
        assert all(was == became or (was, became) != ("claimed", "claimed") for was, became, _ in changes)


async def run_through(yard: Yard, jobs: int, workers: int, kills: int, seed: int) -> None:
    """Let workers do all jobs, while some of them and one server are killed."""
    rng = random.Random(seed)
    for _ in range(workers):
        yard.hire()
    killed: dict[str, float] = {}
    for number in range(1, kills + 1):
        share = jobs * number // (kills + 2)
        await wait_for(lambda share=share: yard.states()["done"] >= share, f"{share} jobs are done", deadline=300)  # type: ignore[misc]
        victim = rng.choice([worker for worker in yard.workers if worker.process.alive])
        killed[victim.name] = time.time()
        victim.process.send_signal(signal.SIGKILL)
        yard.hire()
        if number == kills // 2 + 1:
            await asyncio.to_thread(yard.servers[-1].restart)
    await wait_for(lambda: yard.states()["done"] == jobs, "all jobs are done", deadline=300)
    assert_done_once(yard)
    assert_out_again(yard, killed)


def assert_out_again(yard: Yard, killed: dict[str, float]) -> None:
    """The jobs of killed workers were out again after the grace, and not only after the lease. The machine may be busy."""
    late = [
        (worker, at - killed[worker])
        for moves in yard.moves().values()
        for was, became, _, worker, at in moves
        if (was, became) == ("claimed", "ready") and worker in killed
    ]
    print(
        f"{len(late)} jobs of killed workers were out again after {max((after for _, after in late), default=0.0):.1f} s at most"
    )
    assert all(after < GRACE + BUSY for _, after in late), late


@pytest.mark.parametrize("seed", [1])
async def test_killed_workers_and_servers_leave_each_job_done_once(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect, seed: int
) -> None:
    yard = await yard_of(start_server, storage, backends, wire, [{"n": n} for n in range(200)])
    try:
        await run_through(yard, 200, 3, 3, seed)
    finally:
        await yard.stop()


@pytest.mark.chaos
@pytest.mark.parametrize(("jobs", "kills", "seed"), [(2000, 12, 2), (20000, 60, 3)])
async def test_many_jobs_survive_many_kills(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect, jobs: int, kills: int, seed: int
) -> None:
    yard = await yard_of(start_server, storage, backends, wire, [{"n": n} for n in range(jobs)])
    try:
        await run_through(yard, jobs, 8, kills, seed)
    finally:
        await yard.stop()


async def test_frozen_beyond_its_claim_a_worker_learns_who_has_the_job_and_poison_is_put_aside(
    start_server: StartServer, storage: Storage, backends: Backends, wire: Connect
) -> None:
    payloads: list[dict[str, Any]] = [{"stall": True}, {"poison": True}, *({"n": n} for n in range(20))]
    yard = await yard_of(
        start_server, storage, backends, wire, payloads, lease=1, hold=2, attempts=5, dead="lab:failed"
    )
    reader = await wire(yard.servers[0], room="lab:failed")
    try:
        frozen = yard.hire("frozen")
        await wait_for(lambda: frozen.events("claimed"), "the worker has the first job", deadline=60)
        await asyncio.to_thread(frozen.process.freeze)
        second = yard.hire("second")
        await wait_for(
            lambda: any(said["seq"] == 1 for said in second.events("claimed")), "it is out again", deadline=60
        )
        second.go_on()
        await wait_for(lambda: yard.states() == {"done": 21, "dead": 1}, "all but the poison are done", deadline=60)
        frozen.go_on()
        await asyncio.to_thread(frozen.process.thaw)
        await wait_for(lambda: frozen.events("lost"), "the frozen worker has its answer", deadline=60)
        lost = frozen.events("lost")[0]
        assert (lost["code"], lost["details"][0]["why"], lost["details"][0]["by"]) == ("CLAIM_LOST", "taken", "second")
        ((result, worker),) = query(storage, "SELECT result, client_id FROM bus_job WHERE seq = 1")
        assert ('"second"' in result, worker) == (True, "second")
        letter = await reader.expect(type="event", timeout=30)
        assert (letter["payload"], letter["metadata"]["dead"]["attempts"]) == ({"poison": True}, 5)
        assert [failure["error"] for failure in letter["metadata"]["dead"]["errors"]] == ["poison"] * 5
    finally:
        await yard.stop()
