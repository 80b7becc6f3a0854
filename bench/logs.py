"""The workloads with a log: history from memory and from the database, recovery of many clients."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from bench.contenders import Bus, Contender
from bench.scenario import Dialect, Group, Hello
from bench.servers import Server
from bench.workloads import Options, Result, RunFailedError, drive, figures, publishers, scenario, subscribers

MILLION = 1_000_000
RECOVERED = 500
#: A stored message; each @ becomes its number.
FRAME = (
    '{"version":"1.0","id":"arq_@","type":"event","room":"bench","channel":"million","from":"p-1",'
    '"timestamp":"2026-01-01T00:00:00.000Z","seq":@,"payload":{"d":"0123456789012345678901234567890123456789"}}'
)


def _fill(contender: Contender, server: Server, d: Dialect, count: int) -> None:
    """Publish ``count`` messages to the dialect's channel 0, while one member receives them."""
    raw = drive(scenario(server, d, [subscribers(d, 1), publishers(d, 1)], Options(0), limit=count, tokens=16))
    if raw["missing"]:
        raise RunFailedError(f"{raw['missing']} of {count} messages did not arrive while filling the channel")


def _requests(server: Server, d: Dialect, request: str, ackmark: str, options: Options) -> Result:
    """Measure requests of one client, 4 at a time. The time of each runs from the request to the whole answer."""
    asking = Dialect(
        sub_path=d.sub_path,
        pub_path=d.pub_path,
        pub_hello=d.pub_hello,
        first=d.first,
        publish=request,
        ackmark=ackmark,
        errmark=d.errmark,
    )
    group = Group("asking", 1, d.pub_path, d.pub_hello, publish=request)
    raw = drive(scenario(server, asking, [group], options, tokens=4, complete="ack", frame=0))
    if raw["errors"]:
        raise RunFailedError(f"refused: {raw['first_error'][:200]}")
    result = figures(raw, raw["acked"], "ack_ms")
    return {**result, "frame_bytes": raw["bytes"] // max(raw["frames"], 1)}


def _bus_history(channel: str, **more: Any) -> str:
    parameters = {"room": "bench", "channel": channel, "limit": 50, **more}
    return json.dumps(
        {"type": "command", "command": "history", "id": "h%n", "parameters": parameters},
        separators=(",", ":"),
    )


def history_memory(contender: Contender, server: Server, options: Options) -> Result | None:
    """Read the last 50 messages of a channel with members, which a process has in memory."""
    d = contender.dialect("plain")
    if d is None:
        return None
    if isinstance(contender, Bus):
        _fill(contender, server, d, 100)
        with _Member(server, "c0"):
            return _requests(server, d, _bus_history("c0"), '"type":"command_response"', options)
    kept = _centrifuge_kept(d)
    _fill(contender, server, kept, 100)
    # Protocol v1 of this library answers all that it has when asked for publications; it has 100.
    request = '{"id":5,"method":6,"params":{"channel":"h:c0","use_since":false,"limit":50}}'
    return {**_requests(server, kept, request, '"id":5,"result"', options), "note": "memory broker"}


def history_database(contender: Contender, server: Server, options: Options) -> Result | None:
    """Read 50 messages from the middle of a channel with a million, which no process has in memory."""
    d = contender.dialect("plain")
    if d is None or not isinstance(contender, Bus):
        return None
    rows = options.size(MILLION, MILLION // 10)
    _fill(contender, server, d, 1)
    _insert_rows(server.folder / "bus.sqlite3", rows)
    return {
        **_requests(server, d, _bus_history("million", before=rows // 2), '"type":"command_response"', options),
        "note": f"{rows:,} rows",
    }


def _insert_rows(database: Path, rows: int) -> None:
    """Fill a channel `bench:million` straight in SQLite, since only reading is measured."""
    with sqlite3.connect(database, timeout=30) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(bus_channel)")]
        known = [name for name in columns if name not in ("id", "name", "head")]
        listed = ", ".join(known)
        connection.execute(
            f"INSERT INTO bus_channel (name, head, {listed}) SELECT 'million', ?, {listed} FROM bus_channel"
            " WHERE name = 'c0' AND room_id = (SELECT id FROM bus_room WHERE name = 'bench')",
            (rows,),
        )
        connection.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows)"
            " INSERT INTO bus_message (channel_id, seq, uid, type, sender, created_at, frame)"
            " SELECT (SELECT id FROM bus_channel WHERE name = 'million'), n, 'arq_' || n, 'event', 'p-1',"
            " '2026-01-01 00:00:00', replace(:frame, '@', n) FROM numbers",
            {"rows": rows, "frame": FRAME},
        )
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class _Member:
    """A context with one silent member of a channel of the bus."""

    def __init__(self, server: Server, channel: str) -> None:
        self._socket = connect(f"ws://127.0.0.1:{server.port}/", compression=None)
        self._socket.send(
            json.dumps({"client_id": "bench-member", "client_type": "app", "room": "bench", "channel": channel})
        )
        self.answer = _until(self._socket, lambda frame: frame.get("payload", {}).get("event") == "registered")

    def __enter__(self) -> _Member:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _until(socket: Any, wanted: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        frame = json.loads(socket.recv(timeout=10))
        if wanted(frame):
            found: dict[str, Any] = frame
            return found
    raise RunFailedError("the server did not answer in 10 s")


def recovery(contender: Contender, server: Server, options: Options) -> Result | None:
    """Let 200 clients return at once, each 500 messages behind. Measure CPU time per message, and the time until done."""
    d = contender.dialect("plain")
    if d is None:
        return None
    clients = options.size(200, 50)
    if isinstance(contender, Bus):
        _fill(contender, server, d, RECOVERED)
        with _Member(server, "c0") as member:
            position = member.answer["payload"]["channels"]["bench:c0"]
        hello = (
            '{"client_id":"r-%i","client_type":"app","room":"bench","channel":"c0",'
            f'"since":{position["seq"] - RECOVERED},"epoch":"{position["epoch"]}"}}'
        )
        greeting: tuple[Hello, ...] = (Hello(hello, '"event":"registered"'),)
    else:
        d = _centrifuge_kept(d)
        _fill(contender, server, d, RECOVERED)
        with connect(f"ws://127.0.0.1:{server.port}{d.sub_path}", compression=None) as socket:
            socket.send('{"id":1,"params":{}}')
            socket.send('{"id":2,"method":1,"params":{"channel":"h:c0"}}')
            answer = ""
            while '"id":2' not in answer:
                answer += str(socket.recv(timeout=10))
        result = next(json.loads(line)["result"] for line in answer.splitlines() if '"id":2' in line)
        position = f'"recover":true,"epoch":"{result["epoch"]}","offset":{result.get("offset", 0) - RECOVERED}'
        greeting = (
            Hello('{"id":1,"params":{}}', '"id":1,"result"'),
            Hello(f'{{"id":2,"method":1,"params":{{"channel":"h:c0",{position}}}}}', '"id":2,"result"'),
        )
    group = Group("returning", clients, d.sub_path, greeting, subscriber=True, hold=True)
    raw = drive(scenario(server, d, [group], options, mode="collect", need=RECOVERED, timeout=30.0))
    result_ = figures(raw, raw["delivered"], "delivery_ms")
    # The messages are old: what counts is how long all of them took, not their age.
    result_.update(
        p50=None,
        p99=None,
        p999=None,
        seconds=raw["wall"],
        note=f"{clients} clients complete after {raw['wall'] * 1e3:.0f} ms",
    )
    return result_


def _centrifuge_kept(d: Dialect) -> Dialect:
    """Return the dialect for Centrifuge's channels with history."""
    kept = [Hello(hello.text.replace('"c%g"', '"h:c%g"'), hello.expect) for hello in d.sub_hello]
    return Dialect(
        sub_path=d.sub_path,
        pub_path=d.pub_path,
        sub_hello=tuple(kept),
        pub_hello=d.pub_hello,
        publish=d.publish.replace('"c%g"', '"h:c%g"'),
        ackmark='"id":3,"result"',
        ackall=True,
        errmark=d.errmark,
    )
