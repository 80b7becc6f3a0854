"""The workload of leased work: workers claim one job after another and end it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench import build, machine
from bench.contenders import Bus, BusOnPostgres, CeleryOnRedis, Contender, Nats, admin_command
from bench.servers import ROOT, Server
from bench.workloads import Options, Result, RunFailedError

WORKERS = 32
JOBS = 4000

#: What each contender keeps, and what a `kill -9` costs.
SQLITE = "SQLite, WAL: kill -9 loses nothing, a power cut the last commits; a dead worker's job is out again after 10 s"
POSTGRES = "each commit on the disk: nothing is lost; a dead worker's job is out again after 10 s"
JETSTREAM = (
    "file storage, synced every 2 minutes: kill -9 loses nothing, a power cut up to 2 minutes; out again after 30 s"
)
CELERY = (
    "acks_late, Redis with an append-only file synced each second: kill -9 loses nothing, a power cut a second;"
    " a dead worker's task is out again after an hour"
)


def work(contender: Contender, server: Server, options: Options) -> Result | None:
    """32 workers, one job at a time each: claim it, end it, and wait until the server has confirmed that."""
    jobs = options.size(JOBS, 400)
    if isinstance(contender, Bus):
        postgres = isinstance(contender, BusOnPostgres)
        return _figures(server, jobs, asyncio.run(_bus(server, jobs)), POSTGRES if postgres else SQLITE)
    if isinstance(contender, Nats):
        return _figures(server, jobs, _nats(server, jobs), JETSTREAM)
    if isinstance(contender, CeleryOnRedis):
        return _figures(server, jobs, _celery(server, jobs), CELERY)
    return None


def _figures(server: Server, jobs: int, raw: Result, note: str) -> Result:
    times = sorted(raw["times"])
    wall = raw["wall"]
    needed = f"; the database takes {raw['needed'] / jobs * 1e6:.0f} µs more" if raw.get("needed") else ""
    return {
        "unit_us": raw["cpu"] / jobs * 1e6,
        "rate": jobs / wall,
        "p50": _share(times, 0.5),
        "p99": _share(times, 0.99),
        "p999": _share(times, 0.999),
        "server_share": raw["cpu"] / wall,
        "generator_share": raw["own"] / wall,
        "missing": raw.get("missing", 0),
        "duplicates": raw.get("duplicates", 0),
        "note": note + needed,
    }


def _share(times: list[float], share: float) -> float | None:
    return times[min(len(times) - 1, int(len(times) * share))] * 1e3 if times else None


class _Meter:
    """The CPU time of a server, of those that it needs, and of this process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        machine.wait_until_quiet(server.pid)
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        needed = sum(machine.family_cpu_seconds(other.pid) for other in self._server.needs)
        return machine.cpu_seconds(self._server.pid), needed, sum(os.times()[:4])

    def read(self) -> Result:
        """Return the CPU seconds since the beginning."""
        cpu, needed, own = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return {"cpu": cpu, "needed": needed, "own": own}


# ---- this bus ----


class _Worker:
    """One registered socket that sends a command and waits for its answer."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._number = 0

    async def command(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Return the result of a command. Raises :class:`RunFailedError` if it is refused."""
        self._number += 1
        request = f"w{self._number}"
        await self.socket.send(json.dumps({"type": "command", "command": name, "id": request, "args": parameters}))
        while True:
            frame: dict[str, Any] = json.loads(await self.socket.recv())
            if frame.get("request_id") == request:
                if frame.get("status") != "success":
                    raise RunFailedError(f"{name} was refused: {frame.get('error')}")
                result: dict[str, Any] = frame["result"]
                return result


async def _bus(server: Server, jobs: int) -> Result:
    channel = f"work-{secrets.token_hex(4)}"
    await asyncio.to_thread(
        lambda: admin_command(server, "create_channel", room="bench", channel=channel, work={"lease": 30})
    )
    await _publish(server, channel, jobs)
    workers = [await _worker(server, f"worker-{channel}-{number}") for number in range(WORKERS)]
    meter = await asyncio.to_thread(_Meter, server)
    times: list[float] = []
    seen: list[int] = []
    began = time.perf_counter()

    async def run(worker: _Worker) -> None:
        while True:
            start = time.perf_counter()
            claimed = (await worker.command("claim", room="bench", channel=channel))["claims"]
            if not claimed:
                return
            await worker.command("done", claim=claimed[0]["claim"])
            times.append(time.perf_counter() - start)
            seen.append(claimed[0]["message"]["seq"])

    async with asyncio.timeout(120):
        await asyncio.gather(*map(run, workers))
    wall = time.perf_counter() - began
    used = meter.read()
    for worker in workers:
        await worker.socket.close()
    missing = jobs - len(set(seen))
    return {**used, "wall": wall, "times": times, "missing": missing, "duplicates": len(seen) - len(set(seen))}


async def _worker(server: Server, name: str) -> _Worker:
    socket = await connect(f"ws://127.0.0.1:{server.port}/", compression=None, proxy=None)
    await socket.send(json.dumps({"client_id": name, "client_type": "service", "room": "bench-pub", "channel": "pub"}))
    while json.loads(await socket.recv()).get("payload", {}).get("event") != "registered":
        continue
    return _Worker(socket)


async def _publish(server: Server, channel: str, jobs: int) -> None:
    """Publish the jobs, a hundred in flight."""
    publisher = await _worker(server, f"publisher-{channel}")
    padding = "x" * 120
    for first in range(0, jobs, 100):
        count = min(100, jobs - first)
        for number in range(first, first + count):
            frame = {
                "type": "event",
                "room": "bench",
                "channel": channel,
                "payload": {"n": number, "d": padding},
                "ack": True,
            }
            await publisher.socket.send(json.dumps(frame))
        for _ in range(count):
            while json.loads(await publisher.socket.recv()).get("type") != "ack":
                continue
    await publisher.socket.close()


# ---- peers ----


def _peer(argv: list[str], **env: str) -> subprocess.Popen[str]:
    """Start a peer's program on the generator's core, with the peers' packages."""
    _, core = machine.cores()
    return subprocess.Popen(
        [sys.executable, *argv],
        cwd=ROOT,
        env={**os.environ, **env, "PYTHONPATH": str(build.python_peers())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, core),
    )


def _nats(server: Server, jobs: int) -> Result:
    argv = ["-m", "bench.peers.nats_work", server.extra["client_port"], str(jobs), str(WORKERS)]
    with _peer(argv) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        assert peer.stderr is not None
        if peer.stdout.readline().strip() != "begin":
            raise RunFailedError(f"the NATS workers did not begin: {peer.stderr.read()[-300:]}")
        meter = _Meter(server)
        peer.stdin.write("go\n")
        peer.stdin.flush()
        line = peer.stdout.readline()
        used = {**meter.read(), "own": machine.cpu_seconds(peer.pid)}
        if not line:
            raise RunFailedError(f"the NATS workers failed: {peer.stderr.read()[-300:]}")
    raw: Result = json.loads(line)
    return {**used, **raw, "missing": jobs - len(raw["times"])}


def _celery(server: Server, jobs: int) -> Result:
    """Queue tasks, then start a worker with as many threads. Each task notes its time, so the start does not count."""
    noted = server.folder / f"times-{secrets.token_hex(4)}.json"
    env = {"CELERY_BROKER": f"redis://127.0.0.1:{server.port}/0", "CELERY_TIMES": str(noted), "CELERY_JOBS": str(jobs)}
    with _peer(["-m", "bench.peers.celery_tasks", str(jobs)], **env) as queueing:
        if queueing.wait(120):
            raise RunFailedError(f"Celery did not queue: {queueing.stderr.read()[-300:]}")  # type: ignore[union-attr]
    meter = _Meter(server)
    options = ["--pool", "threads", "--concurrency", str(WORKERS), "--loglevel", "ERROR"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = _peer(["-m", "celery", "-A", "bench.peers.celery_tasks:app", "worker", *options, *quiet], **env)
    try:
        _wait_for(noted, worker)
        used = {**meter.read(), "own": machine.cpu_seconds(worker.pid)}
    finally:
        worker.kill()
        worker.wait(10)
    times = json.loads(noted.read_text())
    return {**used, "wall": times["last"] - times["first"], "times": []}


def _wait_for(path: Path, worker: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        if worker.poll() is not None or time.monotonic() > deadline:
            raise RunFailedError("Celery's worker did not end the tasks")
        time.sleep(0.05)
