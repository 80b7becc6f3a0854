"""10,000 random, truncated and hostile frames over real sockets: the server lives, its memory is flat, nobody else notices.

What any one frame does to the protocol's code is tested with hypothesis in tests/protocol; here it is about the whole server.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, ProtocolError

from tests.conftest import Connect, StartServer
from tests.harness.backends import Backends
from tests.harness.client import WireClient
from tests.harness.server import BusServer
from tests.security.conftest import PRODUCTION

FRAMES = 10_000
CONNECTIONS = 40

#: Frames of the contract, whose parts are put together anew, changed and cut.
SEEDS: list[dict[str, Any]] = [
    {
        "client_id": "fuzz",
        "client_type": "app",
        "room": "science:explore",
        "screen_name": "F",
        "personality": {"a": [1]},
    },
    {"type": "event", "room": "science", "channel": "explore", "message": "hello", "ack": True, "id": "x1"},
    {"type": "private", "to": ["other-client"], "message": "psst", "ack": True},
    {"type": "command", "command": "history", "room": "science", "limit": 5, "before": 3},
    {"type": "command", "command": "join_channel", "room": "science", "channel": "share", "since": 0, "epoch": "x"},
    {"type": "command", "command": "create_channel", "room": "fuzz", "channel": "c", "retention": {"count": 1}},
    {"type": "command", "command": "status", "limit": 2, "after": "a"},
    {"eventType": "agent", "payload": {"a": 1}, "timestamp": "2026-01-01T00:00:00Z", "source": "fuzz"},
    {
        "version": "1.0",
        "id": "arq_1",
        "type": "command",
        "from": "f",
        "payload": {"command": "status", "parameters": {}},
    },
    {"version": "1.0", "id": "arq_2", "type": "private", "payload": {"message": "Hi", "target": "b"}},
    {"type": "register", "client_id": "fuzz2", "resume": {"token": "t", "positions": {"science:explore": {"seq": 1}}}},
    {"type": "event", "channel": "pm", "to": ["fuzz"], "payload": {"deep": {"er": [None, True, 1.5]}}, "metadata": {}},
    {"type": "event", "id": "s1", "room": "science", "channel": "explore", "stream": {"mode": "parts"}, "payload": {}},
    {"type": "append", "of": "arq_s1", "n": 1, "part": {"type": "x"}, "took": ["arq_x1"], "ack": True, "id": "p1"},
    {"type": "append", "of": "arq_s2", "n": 1, "delta": "x", "end": "complete", "payload": {}, "token": "t"},
    {"type": "event", "id": "s2", "stream": {}, "steer": "arq_s1", "room": "science", "channel": "explore"},
    {"type": "command", "command": "stop_stream", "of": "arq_s1"},
    {"type": "command", "command": "adopt_stream", "of": "arq_s2", "keep": False},
    {"type": "command", "command": "history", "room": "science", "fold": True},
]

#: Values where a text, a number or an object is expected.
NASTY: list[str] = [
    "null", "true", "[]", "{}", '""', "-1", "0", "1e999", "-1e999", "99999999999999999999999999", "1.0000000000000000001",
    "NaN", "Infinity", "-", '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"a\\nb"', '"' + "x" * 300 + '"', "[" * 40 + "]" * 40,
    '{"a":' * 10 + "1" + "}" * 10, '"*"', '":"', '"a:b:c"', '"*:*"', '"pm:fuzz"', '"../.."', '"\u202e"', "[null]", '["a",1]',
    '"2026-13-45T99:99:99Z"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', "9223372036854775808", "-9223372036854775809",
]  # fmt: skip


def text_frame(random_: random.Random) -> bytes:
    """A frame of the contract with some of its values replaced, and sometimes cut or scratched."""
    seed = random_.choice(SEEDS)
    parts = []
    for key, value in seed.items():
        if random_.random() < 0.1:
            continue
        shown = random_.choice(NASTY) if random_.random() < 0.3 else json.dumps(value)
        parts.append(f"{json.dumps(key)}:{shown}")
    for _ in range(random_.choice((0, 0, 0, 1, 3))):
        other = random_.choice(SEEDS)
        key = random_.choice(list(other))
        parts.append(f"{json.dumps(key)}:{random_.choice(NASTY)}")
    random_.shuffle(parts)
    frame = ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")
    kind = random_.random()
    if kind < 0.1:
        frame = frame[: random_.randrange(len(frame) + 1)]
    elif kind < 0.2:
        scratched = bytearray(frame)
        for _ in range(random_.randrange(1, 5)):
            scratched[random_.randrange(len(scratched))] = random_.randrange(128)
        frame = bytes(scratched)
    return frame


def junk_frame(random_: random.Random) -> bytes:
    """Bytes that are no text, or no JSON."""
    choices: list[Callable[[], bytes]] = [
        lambda: random_.randbytes(random_.randrange(200)),
        lambda: b"[" * random_.randrange(1, 5000),
        lambda: b'{"a":' * random_.randrange(1, 5000),
        lambda: b"\x00" * random_.randrange(50),
        lambda: b'"' + b"\\u0000" * random_.randrange(50) + b'"',
        lambda: b'{"message":"' + b"y" * random_.choice((10, 1_000, 262_200)) + b'"}',
    ]
    return random_.choice(choices)()


def wire_junk(random_: random.Random) -> bytes:
    """Bytes for the line itself: frames with wrong opcodes, lengths, bits, or none at all."""
    first = random_.choice((0x81, 0x82, 0x83, 0x8B, 0x01, 0x00, 0xC1, 0x88, 0x89, 0xFF))
    second = random_.choice((0x80, 0x85, 0x05, 0xFE, 0xFF, 0xFD))
    return bytes([first, second]) + random_.randbytes(random_.randrange(30))


class Fuzzer:
    """One hostile client, which comes back whenever it is thrown out."""

    def __init__(self, server: BusServer, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._line: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self.sent = 0
        self.codes: set[int] = set()

    async def run(self, frames: int) -> None:
        """Send so many frames."""
        while self.sent < frames:
            try:
                await self._send()
                self.sent += 1
            except (ConnectionClosed, ProtocolError, OSError):
                await self._end()
        await self._end()

    async def _send(self) -> None:
        line = await self._connected()
        if self.sent % 50 == 49:
            # A breath, so that what was sent is read before the next faulty frame ends the connection.
            await asyncio.wait_for(await line.ping(), 10)
        kind = self._random.random()
        if kind < 0.8:
            await line.send(text_frame(self._random), text=True)
        elif kind < 0.98:
            await line.send(junk_frame(self._random), text=False)
        elif kind < 0.99:
            await line.send(junk_frame(self._random), text=True)
        else:
            # What follows half a frame would be taken for its rest, so the line ends with it.
            line.transport.write(wire_junk(self._random))
            if self._random.random() < 0.5:
                line.transport.write_eof()
            await asyncio.sleep(0)
            await self._end()

    async def _connected(self) -> ClientConnection:
        while self._line is None:
            try:
                self._line = await ws_connect(
                    self._server.url, compression=None, ping_interval=None, proxy=None, max_size=None, close_timeout=1
                )
            except (InvalidHandshake, OSError):
                await asyncio.sleep(0.01)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(self._line))
        return self._line

    async def _read(self, line: ClientConnection) -> None:
        """Every frame of the server is JSON, whatever came in."""
        try:
            async for frame in line:
                json.loads(frame)
        except ConnectionClosed:
            pass

    async def _end(self) -> None:
        if self._line is not None:
            self._line.transport.abort()
            if self._reader is not None:
                await self._reader
            if self._line.close_code is not None:
                self.codes.add(self._line.close_code)
        self._line = self._reader = None


@pytest.mark.cluster  # The stricter database: it refuses NUL and what is no UTF-8.
@pytest.mark.timeout(180)
async def test_ten_thousand_hostile_frames_harm_nobody(
    wire: Connect, start_server: StartServer, backends: Backends, fresh_room: str
) -> None:
    # With PostgreSQL a fifth of them, which it takes differently (NUL, numbers); the rest of the server is the same.
    many = FRAMES if backends.name == "embedded" else FRAMES // 5
    # What may wait for a slow reader is bounded; here the bound is low, since the hostile clients are slow readers too.
    low = {"ARQONBUS_FRAME_BYTES": "131072", "ARQONBUS_SEND_BUFFER": "131072"}
    server = start_server(env={**PRODUCTION, **low, "ARQONBUS_RATE_LIMIT": "0", "ARQONBUS_BAD_FRAMES": "200"})
    healthy = [await wire(server, room=f"{fresh_room}:hall") for _ in range(2)]
    seed = int(os.environ.get("FUZZ_SEED", "20260101"))
    await asyncio.gather(*(Fuzzer(server, seed + 1_000_000 + number).run(200) for number in range(CONNECTIONS)))  # warm
    before, received = server.rss(), frames_received(server)
    fuzzers = [Fuzzer(server, seed + number) for number in range(CONNECTIONS)]
    done = asyncio.Event()
    talk = asyncio.create_task(talk_on(healthy, done))
    await asyncio.gather(*(fuzzer.run(many // CONNECTIONS) for fuzzer in fuzzers))
    done.set()
    said = await talk
    assert sum(fuzzer.sent for fuzzer in fuzzers) == many
    assert said > 0
    # Most of them were read; a connection that is ended takes with it what is on its way.
    assert frames_received(server) - received > many * 0.5
    # Thrown out by a rule of the protocol or of the contract, by nothing else.
    assert set().union(*(fuzzer.codes for fuzzer in fuzzers)) <= {
        1000,
        1002,
        1005,
        1006,
        1007,
        1009,
        4008,
        4013,
        4401,
        4409,
        4410,
    }
    assert server.alive
    log = server.log()
    assert "Traceback" not in log, log[log.index("Traceback") - 2000 :][:6000]
    assert "internal_error" not in log
    grown = server.rss() - before
    assert grown < 20 * 1024 * 1024, f"{grown / 1024 / 1024:.1f} MiB"


def frames_received(server: BusServer) -> float:
    """As the metrics tell."""
    page = server.get("/metrics")[1].decode()
    found = re.search(r"^arqonbus_frames_received_total(?:\{.*\})? ([\d.e+]+)$", page, re.MULTILINE)
    assert found is not None
    return float(found[1])


async def talk_on(clients: list[WireClient], done: asyncio.Event) -> int:
    """Two clients that go on talking; every message is acked and arrives. How many it were."""
    speaker, listener = clients
    address = f"{speaker.registered['room']}:hall"
    number = 0
    while not done.is_set():
        number += 1
        ack = await speaker.publish(f"calm {number}", ack=True)
        assert ack["seq"] == number
        await listener.wait_seq(address, number)
        await asyncio.sleep(0.01)
    assert [frame["message"] for frame in listener.messages(address)] == [f"calm {n}" for n in range(1, number + 1)]
    return number
