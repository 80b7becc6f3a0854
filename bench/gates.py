"""`python -m bench.gates`: how a gate that sleeps three seconds changes the delays in other channels.

Ten publishers send to ten channels without gates, each 20 acked messages a second. In every second window four more clients
publish to gated channels all the time. The server has one core, and the publishers have another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bench import databases, machine
from bench.contenders import Bus, all_contenders, make_bus_files
from bench.servers import Server

PUBLISHERS, EACH, SLOW = 10, 20, 4


async def _client(server: Server, name: str) -> ClientConnection:
    socket = await connect(f"ws://127.0.0.1:{server.port}/", compression=None, proxy=None, ping_timeout=None)
    await socket.send(json.dumps({"client_id": name, "client_type": "app", "room": "bench-pub", "channel": "pub"}))
    while '"registered"' not in str(await socket.recv()):
        pass
    return socket


async def _publish(socket: ClientConnection, room: str, channel: str, number: str) -> dict[str, Any]:
    """Publish one message, and return its ack or error."""
    frame = {"type": "event", "id": number, "room": room, "channel": channel, "payload": {"d": "x" * 100}, "ack": True}
    await socket.send(json.dumps(frame))
    while True:
        answer: dict[str, Any] = json.loads(await socket.recv())
        if answer.get("request_id") == number:
            return answer


async def _steady(socket: ClientConnection, channel: str, label: str, seconds: float, times: list[float]) -> None:
    """Publish at a steady rate. A message that is due late counts from when it was due."""
    begin = time.perf_counter()
    for number in range(int(seconds * EACH)):
        due = begin + number / EACH
        await asyncio.sleep(max(due - time.perf_counter(), 0))
        answer = await _publish(socket, "bench", channel, f"{label}-{number}")
        if answer["type"] != "ack":
            raise RuntimeError(f"refused: {answer}")
        times.append(time.perf_counter() - due)


async def _gated(socket: ClientConnection, channel: str, label: str, ended: asyncio.Event, told: list[str]) -> None:
    number = 0
    while not ended.is_set():
        number += 1
        answer = await _publish(socket, "bench-gated", channel, f"{label}-{number}")
        told.append(answer.get("error", {}).get("code", "kept"))


async def measure(server: Server, seconds: float, rounds: int) -> dict[str, Any]:
    """Return the delays without and with gated messages, in milliseconds, and what the gated publishers got."""
    sockets = [await _client(server, f"p-{number}") for number in range(PUBLISHERS)]
    slow = [await _client(server, f"g-{number}") for number in range(SLOW)]
    times: dict[str, list[float]] = {"warm": [], "alone": [], "gated": []}
    told: list[str] = []
    for turn, kind in enumerate(["warm", *["alone", "gated"] * rounds]):
        ended = asyncio.Event()
        beside = [
            asyncio.ensure_future(_gated(socket, f"c{number}", f"g{turn}-{number}", ended, told))
            for number, socket in enumerate(slow)
            if kind == "gated"
        ]
        await asyncio.gather(
            *(
                _steady(socket, f"c{number}", f"{turn}-{number}", seconds if kind != "warm" else 1.0, times[kind])
                for number, socket in enumerate(sockets)
            )
        )
        ended.set()
        await asyncio.gather(*beside)
        # The last gates sleep on, without a publisher that waits.
        await asyncio.sleep(3 if beside else 0)
    result: dict[str, Any] = {"told": {code: told.count(code) for code in sorted(set(told))}}
    for kind in ("alone", "gated"):
        found = sorted(times[kind])
        result[kind] = {
            "messages": len(found),
            "p50_ms": found[len(found) // 2] * 1e3,
            "p99_ms": found[int(len(found) * 0.99)] * 1e3,
        }
    result["ratio"] = result["gated"]["p99_ms"] / result["alone"]["p99_ms"]
    for socket in (*sockets, *slow):
        # A socket that the server closed would raise here.
        await (await socket.ping())
        await socket.close()
    return result


def main() -> None:
    """Measure one contender and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.gates", description=__doc__)
    parser.add_argument("--contender", default="bus-daphne", help="bus-daphne, bus-uvicorn or bus-postgres")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one window (6)")
    parser.add_argument("--rounds", type=int, default=3, help="windows of each kind (3)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "files"
        files.mkdir()
        found = [c for c in all_contenders(lambda: make_bus_files(files)) if c.key == chosen.contender]
        if not found or not isinstance(found[0], Bus):
            parser.error(f"{chosen.contender} is none of the three")
        bus = found[0]
        bus.more["DJANGO_SETTINGS_MODULE"] = "bench.gated.settings"
        redis = None
        if bus.key == "bus-postgres":
            redis = databases.redis(folder)
            bus.more["REDIS_URL"] = f"redis://127.0.0.1:{redis.port}/0"
        server = bus.start(folder)
        try:
            os.sched_setaffinity(0, machine.cores()[1])
            print(json.dumps({chosen.contender: asyncio.run(measure(server, chosen.seconds, chosen.rounds))}))
        finally:
            server.stop()
            if redis is not None:
                redis.stop()


if __name__ == "__main__":
    main()
