"""`python -m bench.million`: what a process costs whose database has a million channels.

The database is filled with a few statements. Then a server with 100 open channels is measured while nothing happens, with a
few joins and pages of history, and the regular work of a node is measured part by part. CPU time is that of the process
with its threads, and that of PostgreSQL's processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bench import contenders, databases, machine, servers
from bench.servers import Server

#: Channels that the measured process has open, with so many messages each. The other messages lie in as many channels.
OPEN, KEPT = 100, 500
#: Clients that share the open channels.
CLIENTS = 10
#: Of the open channels, those whose older messages are pruned.
PRUNED = 25
#: Rooms of the filled database.
ROOMS = 1000
ROOM = "million"


# ---- filling ----

_CHANNELS = """
INSERT INTO bus_channel (room_id, name, kind, type, description, metadata, ephemeral, hardcoded, auto_created,
  created_at, created_by, owner, epoch, head, touched_at)
SELECT r.id, {prefix} || n, 'channel', 'custom', '', '{{}}', {no}, {no}, {auto}, {old}, 'bench', '', {epoch}, {head}, {old}
FROM ({numbers}) AS numbers JOIN bus_room r ON r.name = {room}
"""
_MESSAGES = """
INSERT INTO bus_message (channel_id, seq, uid, type, sender, created_at, frame, hops)
SELECT c.id, {seq}, 'm-' || c.id || '-' || {seq}, 'event', 'bench', {now}, {frame}, 0 FROM bus_channel c {others}
"""
_FRAME = """'{"type":"event","payload":{"text":"' || '{filler}' || '"},"seq":' || {seq} || '}'"""


def _statements(vendor: str, channels: int, messages: int) -> Iterator[str]:
    """Yield the statements that fill a migrated database of ``vendor``."""
    sqlite = vendor == "sqlite"
    no, yes = ("0", "1") if sqlite else ("false", "true")
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')" if sqlite else "now()"
    old = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-2 days')" if sqlite else "now() - interval '2 days'"

    def numbers(most: int) -> str:
        if sqlite:
            return f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {most}) SELECT n FROM c"
        return f"SELECT generate_series(1, {most}) AS n"

    text = "CAST(n AS TEXT)"
    yield (
        "INSERT INTO bus_room (name, description, private, hardcoded, auto_created, created_at, created_by)"
        f" SELECT CASE n WHEN 0 THEN '{ROOM}' ELSE 'room-' || {text} END, '', {no}, {no}, {no}, {now}, 'bench'"
        f" FROM (SELECT 0 AS n UNION ALL SELECT n FROM ({numbers(ROOMS)}) AS more) AS numbers"
    )
    parts = {"no": no, "old": old, "epoch": "'0123456789abcdef'"}
    yield _CHANNELS.format(**parts, prefix="'open-'", auto=no, head=KEPT, numbers=numbers(OPEN), room=f"'{ROOM}'")
    apart = min(max(messages - OPEN * KEPT, 0), channels - OPEN)
    # Channels with messages were created by their first one; the others by a program.
    for prefix, count, auto in (("'kept-'", apart, yes), ("'empty-'", channels - OPEN - apart, no)):
        room = f"'room-' || CAST(n % {ROOMS} + 1 AS TEXT)"
        yield _CHANNELS.format(**parts, prefix=prefix, auto=auto, head=10, numbers=numbers(count), room=room)
    filler = "x" * 150
    seq = "CAST(n AS TEXT)"
    frame = _FRAME.replace("{filler}", filler).replace("{seq}", seq)
    others = f"CROSS JOIN ({numbers(KEPT)}) AS numbers WHERE c.name LIKE 'open-%'"
    yield _MESSAGES.format(seq="n", now=now, frame=frame, others=others)
    frame = _FRAME.replace("{filler}", filler).replace("{seq}", "10")
    yield _MESSAGES.format(seq="10", now=now, frame=frame, others="WHERE c.name LIKE 'kept-%'")
    yield "ANALYZE" if sqlite else "VACUUM ANALYZE"


def fill(url: str, channels: int, messages: int) -> float:
    """Fill a migrated database. Return the seconds that it took."""
    begun = time.monotonic()
    if url.startswith("sqlite"):
        import sqlite3

        with sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None) as lite:
            lite.execute("PRAGMA synchronous=OFF")
            for statement in _statements("sqlite", channels, messages):
                lite.execute(statement)
            lite.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            for statement in _statements("postgresql", channels, messages):
                connection.execute(statement.encode())
    return time.monotonic() - begun


# ---- CPU time ----


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process with its threads, to the microsecond."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:
            continue
    return total / 1e9


def family_cpu(pid: int) -> float:
    """As :func:`cpu`, for the children of a process."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                total += cpu(int(stat.parent.name))
        except OSError:
            continue
    return total


class Meter:
    """Collects rows of the table: what was done, and its CPU time in the process and in PostgreSQL."""

    def __init__(self, database: Server | None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._database = database

    def read(self, pid: int) -> tuple[float, float]:
        """Return the CPU seconds of the process and of PostgreSQL until now."""
        return cpu(pid), family_cpu(self._database.pid) if self._database else 0.0

    @contextmanager
    def measure(self, what: str, pid: int, count: float, unit: str) -> Iterator[None]:
        """Measure what happens within it, as milliseconds for each of ``count`` units."""
        before, begun = self.read(pid), time.monotonic()
        try:
            yield
        except RuntimeError as problem:
            print(f"{what}: {str(problem)[:200]}", flush=True)
            return
        after, ended = self.read(pid), time.monotonic()
        row = {
            "what": what,
            "unit": unit,
            "process_ms": round((after[0] - before[0]) * 1000 / count, 3),
            "database_ms": round((after[1] - before[1]) * 1000 / count, 3),
            "wall_ms": round((ended - begun) * 1000 / count, 3),
        }
        self.rows.append(row)
        print(
            f"{what:34} {row['process_ms']:10.3f} {row['database_ms']:10.3f} {row['wall_ms']:10.3f} ms a {unit}",
            flush=True,
        )


# ---- a server ----


def _environment(url: str) -> dict[str, str]:
    return contenders._environment(
        DATABASE_URL=url,
        DEBUG="0",
        SECRET_KEY="bench-" * 10,
        ALLOWED_HOSTS="*",
        INSECURE_HTTP="1",
        ARQONBUS_RATE_LIMIT="0",
        ARQONBUS_RETENTION_COUNT="100000",
    )


def _start(url: str, folder: Path) -> Server:
    port = machine.free_port()
    argv = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), "arqonbus_site.asgi:application"]
    return servers.start(argv, folder, port, env=_environment(url))


def _command(socket: ClientConnection, command: str, **parameters: object) -> None:
    socket.send(json.dumps({"type": "command", "command": command, "id": command, "parameters": parameters}))
    while True:
        frame = json.loads(socket.recv(timeout=60))
        if frame.get("request_id") == command:
            if frame.get("status") != "success":
                raise RuntimeError(f"refused with {frame['error']['code']}")
            return


def with_server(url: str, token: str, folder: Path, meter: Meter, seconds: float) -> None:
    """Measure a server with :data:`OPEN` open channels: idle, with joins, and with pages of history."""
    sockets: list[ClientConnection] = []
    headers = {"Authorization": f"Bearer {token}"}
    with ExitStack() as exits:
        server = _start(url, folder)
        exits.callback(server.stop)
        for number in range(CLIENTS):
            socket = exits.enter_context(
                connect(f"ws://127.0.0.1:{server.port}/", compression=None, additional_headers=headers)
            )
            hello = {"client_id": f"c{number}", "client_type": "app", "room": ROOM, "channel": f"open-{number + 1}"}
            socket.send(json.dumps(hello))
            socket.recv(timeout=30)
            sockets.append(socket)
        with meter.measure("join a channel", server.pid, OPEN - CLIENTS, "join"):
            for number in range(CLIENTS, OPEN):
                _command(sockets[number % CLIENTS], "join_channel", room=ROOM, channel=f"open-{number + 1}")
        machine.wait_until_quiet(server.pid, 20)
        time.sleep(3)
        with meter.measure(f"idle, {OPEN} open channels", server.pid, seconds, "second"):
            time.sleep(seconds)
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/api/v1/channels/{ROOM}:open-1/messages?limit=50",
            headers=headers,
        )
        with meter.measure("page of history (REST)", server.pid, 50, "page"):
            for _ in range(50):
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answer.read()
        with meter.measure("command `status`", server.pid, 20, "command"):
            for _ in range(20):
                _command(sockets[0], "status")


# ---- the parts of a node ----


def with_node(url: str, meter: Meter, rounds: int) -> None:
    """Measure the regular work of a node part by part, in this process."""
    os.environ.update(_environment(url))
    os.environ["DJANGO_SETTINGS_MODULE"] = "arqonbus_site.settings"
    import django

    django.setup()
    asyncio.run(_parts(meter, rounds))


async def _parts(meter: Meter, rounds: int) -> None:
    from bus.auth.permissions import SYSTEM
    from bus.models import Channel, Counter
    from bus.node import Node
    from bus.protocol.names import Address

    node = Node()
    await node.runtime.run_writer(node._prepare, [])
    refs = [await node.channels.resolve(Address(ROOM, f"open-{n + 1}"), SYSTEM) for n in range(OPEN)]
    await node.streams.open(refs)
    await node.watch.compare()
    pid = os.getpid()

    async def part(what: str, work: Callable[[], Awaitable[object]], count: int = rounds) -> None:
        await work()
        with meter.measure(what, pid, count, "time"):
            for _ in range(count):
                await work()

    await part("look at the log", node.watch.compare)
    await part("heartbeat", node.heartbeat.beat)
    await part("look at questions", node.questions.look)
    await part("look at decisions", node.decisions.look)
    await part("look at rights", node.rights.look)
    await part("sweep of streams", node.housekeeping.end_overdue)
    await part("sweep of statuses", node.housekeeping.end_statuses)
    await part("sweep of jobs", node.work.sweep)

    # This node takes the turn of the server before it.
    await node.runtime.run_writer(lambda: Counter.objects.filter(name="swept_at").delete())

    async def tidy() -> None:
        node.housekeeping._next_prune = 0.0
        await node.housekeeping.tidy()

    await part("retention and sweeps", tidy, max(2, rounds // 5))
    pruned = [ref.id for ref in refs[:PRUNED]]
    rule = Channel.objects.filter(pk__in=pruned)
    await node.runtime.run_writer(lambda: rule.update(retention_count=100))
    with meter.measure(f"prune {PRUNED * (KEPT - 100):,} messages", pid, PRUNED * (KEPT - 100), "message"):
        await tidy()
    await part("statistics", node.statistics.announce, max(2, rounds // 5))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--channels", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long the idle process is watched")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="a file for the rows, as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-million-") as name:
        folder = Path(name)
        database = databases.postgres(folder) if options.backend == "postgres" else None
        url = (
            f"postgres://postgres@127.0.0.1:{database.port}/postgres"
            if database
            else f"sqlite:///{folder / 'bus.sqlite3'}"
        )
        try:
            token = contenders.prepare_database(url)
            took = fill(url, options.channels, options.messages)
            print(f"{options.backend}: {options.channels:,} channels and {options.messages:,} messages in {took:.1f} s")
            print(f"{'':34} {'process':>10} {'database':>10} {'wall':>10}")
            meter = Meter(database)
            with_server(url, token, folder, meter, options.seconds)
            with_node(url, meter, options.rounds)
        finally:
            if database is not None:
                database.kill()
    if options.output is not None:
        options.output.write_text(json.dumps({**vars(options), "output": None, "rows": meter.rows}, indent=1))


if __name__ == "__main__":
    main()
