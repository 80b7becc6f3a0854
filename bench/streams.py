"""The workload of streamed messages: a part beside a durable message, the way of a stop, a thousand listeners of events."""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from bench import machine
from bench.contenders import Bus, Contender
from bench.scenario import Dialect, Hello
from bench.servers import Server
from bench.workloads import (
    Options,
    Result,
    RunFailedError,
    drive,
    figures,
    one_to_one,
    publishers,
    scenario,
    subscribers,
)

STOPS = 50
LISTENERS = 1000
PARTS, PAUSE = 40, 0.1


def streams(contender: Contender, server: Server, options: Options) -> Result | None:
    """20 owners of one stream each, 32 parts in flight; then stops, and listeners of Server-Sent Events."""
    durable = contender.dialect("durable")
    if durable is None or not isinstance(contender, Bus):
        return None
    d = _owners(durable)
    groups = [subscribers(d, 1), publishers(d, 20)]
    # A stream is at most as long as the largest frame: parts without padding do not fill one in a run.
    raw = drive(scenario(server, d, groups, options, tokens=32, complete="ack", frame=0))
    result = figures(raw, raw["acked"], "ack_ms")
    message = one_to_one("durable")(contender, server, options)
    stops = _stops(server, options.size(STOPS, 10))
    listening = asyncio.run(_listened(server, options.size(LISTENERS, 100)))
    note = (
        f"a durable message {message['unit_us'] if message else 0:.1f} µs; a stop reaches the owner in "
        f"{stops[0]:.1f} ms (p50), {stops[1]:.1f} ms (p99); {listening['listeners']:,} event listeners: "
        f"{listening['threads']} threads, {listening['event_us']:.1f} µs per event"
    )
    return {
        **result,
        "message_us": message["unit_us"] if message else None,
        "stop_p50_ms": stops[0],
        "stop_p99_ms": stops[1],
        **listening,
        "note": note,
    }


def _owners(durable: Dialect) -> Dialect:
    """Return frames with which each publisher opens a stream, and appends to it."""
    of = f"bench-{secrets.token_hex(4)}-%i"
    opening = f'{{"type":"event","id":"{of}","room":"bench","channel":"c0","stream":{{"mode":"text"}},"ack":true}}'
    part = f'{{"type":"append","of":"arq_{of}","n":%n,"delta":"%M%P","ack":true}}'
    return Dialect(
        sub_path=durable.sub_path,
        pub_path=durable.pub_path,
        sub_hello=durable.sub_hello,
        pub_hello=(*durable.pub_hello, Hello(opening, '"type":"ack"')),
        publish=part,
        acked=True,
        ackmark='"type":"ack"',
        errmark=durable.errmark,
    )


# ---- a stop ----


class _Client:
    """One registered socket that waits for frames."""

    def __init__(self, server: Server, name: str) -> None:
        self.socket: ClientConnection = connect(f"ws://127.0.0.1:{server.port}/", compression=None, proxy=None)
        self.send({"client_id": name, "client_type": "app", "room": "bench-pub", "channel": "pub"})
        self.until(lambda frame: frame.get("payload", {}).get("event") == "registered")

    def send(self, frame: dict[str, Any]) -> None:
        """Send an object."""
        self.socket.send(json.dumps(frame))

    def until(self, wanted: Any) -> dict[str, Any]:
        """Return the first frame that is wanted. Raises :class:`RunFailedError` after ten seconds, or for an error frame."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            frame: dict[str, Any] = json.loads(self.socket.recv(timeout=10))
            if frame.get("type") == "error":
                raise RunFailedError(f"refused: {frame}")
            if wanted(frame):
                return frame
        raise RunFailedError("the server did not answer in 10 s")

    def ask(self, frame: dict[str, Any]) -> None:
        """Send a frame, and wait for its ack."""
        self.send({**frame, "ack": True})
        self.until(lambda answer: answer.get("type") == "ack" and answer["request_id"] == frame["id"])


def _stops(server: Server, count: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of a stop's way to the owner, in milliseconds, on an idle server."""
    machine.wait_until_quiet(server.pid)
    owner, stopper = _Client(server, "stopped"), _Client(server, "stopper")
    times = []
    for number in range(count):
        of = f"arq_stop-{secrets.token_hex(4)}"
        owner.ask({"type": "event", "id": of, "room": "bench", "channel": "stops", "stream": {"mode": "text"}})
        owner.ask({"type": "append", "id": f"{of}.1", "of": of, "n": 1, "delta": "said"})
        began = time.perf_counter()
        stopper.send({"type": "command", "command": "stop_stream", "id": f"s{number}", "args": {"of": of}})
        owner.until(lambda frame: frame.get("payload", {}).get("event") == "stop_requested")
        times.append((time.perf_counter() - began) * 1e3)
        owner.ask({"type": "append", "id": f"{of}.e", "of": of, "n": 1, "end": "stopped"})
    owner.socket.close()
    stopper.socket.close()
    times.sort()
    return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]


# ---- listeners ----


async def _listened(server: Server, count: int) -> Result:
    """Let so many listeners follow one stream. Return the server's threads, its CPU time per event, and what is missing."""
    owner = await asyncio.to_thread(_Client, server, "read-aloud")
    of = f"arq_listen-{secrets.token_hex(4)}"
    opening = {"type": "event", "id": of, "room": "bench", "channel": "read", "stream": {"mode": "text"}}
    await asyncio.to_thread(owner.ask, opening)
    got = [0] * count
    ready = asyncio.Semaphore(0)
    crowd = [asyncio.ensure_future(_listen(server, of, got, number, ready)) for number in range(count)]
    try:
        async with asyncio.timeout(60):
            for _ in crowd:
                await ready.acquire()
        await asyncio.to_thread(machine.wait_until_quiet, server.pid)
        before = machine.cpu_seconds(server.pid)
        for n in range(1, PARTS + 1):
            await asyncio.to_thread(
                owner.ask, {"type": "append", "id": f"{of}.{n}", "of": of, "n": n, "delta": f"token {n:06} "}
            )
            await asyncio.sleep(PAUSE)
        # Before the end: then the listeners leave, and threads may go with them.
        threads = _threads(server.pid)
        await asyncio.to_thread(owner.ask, {"type": "append", "id": f"{of}.e", "of": of, "n": PARTS, "end": "complete"})
        async with asyncio.timeout(60):
            await asyncio.gather(*crowd)
        spent = machine.cpu_seconds(server.pid) - before
    except TimeoutError:
        raise RunFailedError(f"{sum(n > 0 for n in got)} of {count} listeners got anything in 60 s") from None
    finally:
        for task in crowd:
            task.cancel()
        await asyncio.to_thread(owner.socket.close)
    return {
        "listeners": count,
        "threads": threads,
        "event_us": spent / (count * (PARTS + 1)) * 1e6,
        "events_missing": count * PARTS - sum(got),
    }


async def _listen(server: Server, of: str, got: list[int], number: int, ready: asyncio.Semaphore) -> None:
    """Count the parts that one listener gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    request = (
        f"GET /api/v1/streams/{of}/events?as=parts HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    )
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RunFailedError(f"a listener was refused: {head[:80]!r}")
    ready.release()
    while line := await reader.readline():
        if line.startswith(b"event: append"):
            got[number] += 1
        elif line.startswith(b"event: stream_end"):
            break
    writer.close()


def _threads(pid: int) -> int:
    """Return the number of a process's threads."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))
