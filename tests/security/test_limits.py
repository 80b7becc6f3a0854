"""Every limit has an error or close code and a metric, and does not affect other clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed

from tests.conftest import Connect, StartServer, _servers
from tests.harness.backends import Backends
from tests.harness.client import WireClient, WireError
from tests.harness.server import BusServer
from tests.harness.waiting import wait_until
from tests.security.conftest import PRODUCTION

# Times that a healthy client keeps on a busy machine, too.
STRICT = {
    **PRODUCTION,
    "ARQONBUS_RATE_LIMIT": "50",
    "ARQONBUS_RATE_BURST": "100",
    "ARQONBUS_PRINCIPAL_RATE_LIMIT": "40",
    "ARQONBUS_BYTE_RATE_LIMIT": "100000",
    "ARQONBUS_BAD_FRAMES": "20",
    "ARQONBUS_MEMBERSHIPS": "3",
    "ARQONBUS_CHANNELS_PER_CLIENT": "4",
    "ARQONBUS_CONNECTIONS_PER_ADDRESS": "5",
    "ARQONBUS_CONNECTIONS_PER_PRINCIPAL": "3",
    "ARQONBUS_CONNECTIONS": "40",
    "ARQONBUS_REGISTRATION_DEADLINE": "4",
    "ARQONBUS_HANDSHAKE_TIMEOUT": "3",
    "ARQONBUS_PING_INTERVAL": "1",
    "ARQONBUS_PING_TIMEOUT": "4",
}

# The limits are the same whatever keeps the messages.
pytestmark = pytest.mark.embedded

_hosts = itertools.count(1)


def from_new_address() -> dict[str, str]:
    """Headers that make a connection come from an address of its own (the server trusts one proxy)."""
    number = next(_hosts)
    return {"X-Forwarded-For": f"198.51.{number // 250}.{number % 250 + 1}"}


@pytest.fixture(scope="module")
def start_strict(backends: Backends) -> Iterator[Callable[[str], BusServer]]:
    """Servers with low limits, each started once: under the plain ``daphne`` command, and under runbus with uvicorn."""
    made: dict[str, BusServer] = {}
    with contextlib.ExitStack() as ends:

        def once(kind: str) -> BusServer:
            if kind not in made:
                portable = {"ARQONBUS_WRITER": "portable"} if "portable" in kind else {}
                command: dict[str, Any] = {
                    "uvicorn": {"kind": "runbus", "arguments": ("--server", "uvicorn")},
                    "portable uvicorn": {"kind": "uvicorn", "arguments": ("--loop", "asyncio")},
                }.get(kind, {})
                storage = backends.new_storage()
                ends.callback(backends.drop_storage, storage)
                start = ends.enter_context(_servers(backends, storage))
                made[kind] = start(env={**STRICT, **portable}, **command)
            return made[kind]

        yield once


@pytest.fixture
def strict_server(start_strict: Callable[[str], BusServer]) -> BusServer:
    """The one under daphne."""
    return start_strict("daphne")


@pytest.fixture(params=["daphne", "uvicorn"])
def each_server(start_strict: Callable[[str], BusServer], request: pytest.FixtureRequest) -> BusServer:
    """Both in turn."""
    return start_strict(request.param)


@pytest.fixture(params=["daphne", "uvicorn", "portable daphne", "portable uvicorn"])
def each_way(start_strict: Callable[[str], BusServer], request: pytest.FixtureRequest) -> BusServer:
    """Both in turn (uvicorn on uvloop, which it takes where it is installed), and with nothing read quickly."""
    return start_strict(request.param)


def counted(server: BusServer, limit: str) -> float:
    """How often the metrics say that a limit was reached."""
    page = server.get("/metrics")[1].decode()
    found = re.search(rf'^arqonbus_limits_reached_total\{{[^}}]*limit="{limit}"[^}}]*\}} ([\d.]+)', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def errors_counted(server: BusServer, code: str) -> float:
    """How often clients were told an error."""
    page = server.get("/metrics")[1].decode()
    found = re.search(rf'^arqonbus_errors_total\{{[^}}]*code="{code}"[^}}]*\}} ([\d.]+)', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def flood(client: WireClient, text: str, count: int) -> int:
    """Send as fast as the line takes it until the server ends the connection; the close code."""
    for _ in range(count):
        try:
            await client.socket.send(text)
        except ConnectionClosed:
            break
    return await client.wait_closed(timeout=30)


async def test_too_many_frames_are_told_to_wait_and_then_cost_the_connection(
    wire: Connect, strict_server: BusServer, fresh_room: str
) -> None:
    before = errors_counted(strict_server, "RATE_LIMITED")
    client = await wire(strict_server, headers=from_new_address(), room=f"{fresh_room}:hall")
    code = await flood(client, '{"message": "x"}', 2000)
    first = next(frame for frame in client.frames if frame["type"] == "error")["error"]
    assert (first["code"], first["number"]) == ("RATE_LIMITED", 429)
    assert 0 < first["retry_after"] < 1
    assert code == 4429
    assert errors_counted(strict_server, "RATE_LIMITED") > before


async def test_bad_frames_are_forgiven_slowly_and_then_cost_the_connection(
    wire: Connect, strict_server: BusServer
) -> None:
    client = await wire(strict_server, headers=from_new_address())
    assert await flood(client, "{", 60) == 4008
    errors = [frame["error"]["code"] for frame in client.frames if frame["type"] == "error"]
    assert set(errors) == {"INVALID_JSON"}
    assert 20 <= len(errors) <= 22


async def test_too_many_bytes_are_told_to_wait(wire: Connect, strict_server: BusServer, fresh_room: str) -> None:
    client = await wire(strict_server, headers=from_new_address(), room=f"{fresh_room}:hall")
    # The largest frame that is taken passes at whatever rate.
    await client.publish("x" * 250_000, ack=True)
    with pytest.raises(WireError) as refused:
        await client.publish("x" * 80_000, ack=True)
    assert refused.value.code == "RATE_LIMITED"


async def test_the_connections_of_one_principal_share_a_rate(
    wire: Connect, strict_server: BusServer, fresh_room: str
) -> None:
    token = strict_server.create_token("two sockets")
    clients = [
        await wire(strict_server, headers=from_new_address(), token=token, room=f"{fresh_room}:hall") for _ in range(2)
    ]
    # Each alone stays below its own burst of 100; together they are above the shared one of 80.
    for number in range(60):
        for client in clients:
            await client.send({"message": f"{number}"})
    refused = await asyncio.gather(*(any_refused(client) for client in clients))
    assert any(refused)


async def any_refused(client: WireClient) -> bool:
    """Whether a frame was refused for its rate, once the server has taken all that was sent."""
    await client.send({"type": "command", "command": "ping", "id": "last"})
    await client.expect(predicate=lambda frame: frame.get("request_id") == "last")
    return any(frame.get("error", {}).get("code") == "RATE_LIMITED" for frame in client.frames)


async def test_memberships_and_channels_made_are_limited_and_a_new_name_does_not_help(
    wire: Connect, strict_server: BusServer, fresh_room: str
) -> None:
    headers = from_new_address()
    client = await wire(strict_server, headers=headers, room=f"{fresh_room}:c0")
    await client.join(fresh_room, "c1")
    await client.join(fresh_room, "c2")
    with pytest.raises(WireError) as refused:
        await client.join(fresh_room, "c3")
    assert refused.value.code == "LIMIT_REACHED"
    assert refused.value.details[0]["limit"] == "memberships"
    await client.close()
    before = counted(strict_server, "channels_per_client")
    again = await wire(strict_server, headers=headers, room=f"{fresh_room}:c0")
    await again.publish("x", channel="c4", ack=True)
    with pytest.raises(WireError) as refused:
        await again.publish("x", channel="c5", ack=True)
    assert refused.value.details[0]["limit"] == "channels_per_client"
    assert counted(strict_server, "channels_per_client") == before + 1


async def test_one_address_cannot_take_all_connections(wire: Connect, strict_server: BusServer) -> None:
    """The attack with 5,000 connections, at the scale of a limit of five."""
    headers = from_new_address()
    before = counted(strict_server, "connections_per_address")
    inside = [await wire(strict_server, headers=headers) for _ in range(5)]
    for _ in range(20):
        refused = await wire(strict_server, headers=headers, register=False)
        error = (await refused.expect(type="error"))["error"]
        assert (error["code"], error["details"][0]["limit"]) == ("LIMIT_REACHED", "connections_per_address")
        assert error["retry_after"] > 0
        assert await refused.wait_closed() == 4429
    assert counted(strict_server, "connections_per_address") == before + 20
    await (await wire(strict_server, headers=from_new_address())).ping()
    await inside[0].close()

    # Its place is free once the server knows that it is closed.
    async with asyncio.timeout(10):
        while True:
            client = await wire(strict_server, headers=headers, register=False)
            if (await client.expect())["type"] == "system":
                break


async def test_the_addresses_of_one_ipv6_network_count_together(wire: Connect, strict_server: BusServer) -> None:
    """Whoever has one IPv6 address has 2^64 of them."""
    for host in range(5):
        await wire(strict_server, headers={"X-Forwarded-For": f"2001:db8:1:1::{host + 1:x}"})
    refused = await wire(strict_server, register=False, headers={"X-Forwarded-For": "2001:db8:1:1:ffff::9"})
    assert await refused.wait_closed() == 4429
    await wire(strict_server, headers={"X-Forwarded-For": "2001:db8:1:2::1"})


async def test_what_a_client_writes_into_x_forwarded_for_gives_it_no_other_address(
    wire: Connect, strict_server: BusServer
) -> None:
    true = from_new_address()["X-Forwarded-For"]
    for number in range(5):
        await wire(strict_server, headers={"X-Forwarded-For": f"203.0.113.{number}, {true}"})
    refused = await wire(strict_server, headers={"X-Forwarded-For": f"203.0.113.99, {true}"}, register=False)
    assert await refused.wait_closed() == 4429


async def test_one_principal_has_so_many_connections_and_no_more(wire: Connect, strict_server: BusServer) -> None:
    token = strict_server.create_token("popular")
    ways: list[dict[str, Any]] = [{"token": token}, {"subprotocols": [f"bearer.{token}"]}, {"token": token}]
    for way in ways:
        await wire(strict_server, headers=from_new_address(), **way)
    with pytest.raises(WireError) as refused:
        await wire(strict_server, headers=from_new_address(), token=token)
    assert refused.value.details[0]["limit"] == "connections_per_principal"


async def test_who_says_nothing_is_sent_away_at_the_registration_deadline(
    wire: Connect, strict_server: BusServer
) -> None:
    silent = await wire(strict_server, headers=from_new_address(), register=False)
    speaking = await wire(strict_server, headers=from_new_address())
    error = (await silent.expect(type="error"))["error"]
    assert "within 4 s" in error["message"]
    assert await silent.wait_closed() == 4401
    await speaking.ping()


async def test_a_connection_that_answers_no_ping_is_found_and_its_presence_ends(
    wire: Connect, each_server: BusServer, fresh_room: str
) -> None:
    watcher = await wire(each_server, headers=from_new_address(), room=f"{fresh_room}:hall")
    client_id = f"{fresh_room}-dead"
    # A line that broke without a word: the peer's kernel still acknowledges, nobody answers pings.
    line = await ws_connect(
        each_server.url, additional_headers=from_new_address(), ping_interval=None, compression=None, proxy=None
    )
    await line.send(f'{{"client_id": "{client_id}", "room": "{fresh_room}:hall"}}')
    await watcher.expect(event="client_joined")
    line.transport.pause_reading()
    left = await watcher.expect(event="client_left", timeout=20)
    assert left["payload"]["client_id"] == client_id
    line.transport.abort()
    await watcher.ping()


@pytest.mark.parametrize("way", ["nothing", "a byte now and then", "a body that never comes"])
def test_a_slow_handshake_ends(each_server: BusServer, way: str) -> None:
    if way == "a body that never comes" and each_server.kind == "runbus":
        way = "a head that never ends"  # uvicorn hands a request on once its head is there
    with socket.create_connection((each_server.host, each_server.port), timeout=15) as line:
        line.settimeout(0.2)
        if way == "a body that never comes":
            line.sendall(b"POST /api/v1/messages/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        elif way != "nothing":
            line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")

        def ended() -> bool:
            try:
                if way != "nothing":
                    line.sendall(b"X")
                return line.recv(4096) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        wait_until(ended, "the server ends the line", deadline=15)


async def test_a_flood_of_100_000_frames_is_closed_and_keeps_neither_memory_nor_others(
    wire: Connect, each_server: BusServer, fresh_room: str
) -> None:
    other = await wire(each_server, headers=from_new_address(), room=f"{fresh_room}:hall")
    before = each_server.rss()
    line = await ws_connect(
        each_server.url, additional_headers=from_new_address(), compression=None, ping_interval=None, proxy=None
    )
    frames = b"".join(masked(b'{"message":"flood"}') for _ in range(1000))
    for _ in range(100):
        line.transport.write(frames)
        await asyncio.sleep(0)
    await asyncio.wait_for(drain(line), 30)
    assert line.close_code == 4429
    await other.ping()
    assert each_server.rss() - before < 20 * 1024 * 1024


def masked(payload: bytes) -> bytes:
    """A text frame as a client sends it, masked with zeros."""
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


async def test_frames_that_wait_behind_slow_commands_do_not_pile_up(
    wire: Connect, start_server: StartServer, fresh_room: str
) -> None:
    """RELIABILITY F17: without a limit of rate, daphne's socket is left unread while the connection is busy."""
    server = start_server(env={**PRODUCTION, "ARQONBUS_RATE_LIMIT": "0"})
    other = await wire(server)
    line = await ws_connect(server.url, compression=None, ping_interval=None, proxy=None, max_queue=None)
    before = server.rss()
    # Each asks the database, and the next frame waits for it.
    command = b'{"type":"command","command":"channel_info","room":"science","channel":"general"}'
    frames = b"".join(masked(command) for _ in range(1000))
    reader = asyncio.create_task(drain(line))
    for _ in range(100):
        line.transport.write(frames)
    for _ in range(50):
        await other.ping()
    assert server.rss() - before < 20 * 1024 * 1024
    line.transport.abort()
    await reader
    await other.ping()


async def drain(line: Any) -> None:
    """Read until it ends."""
    try:
        while True:
            await line.recv()
    except ConnectionClosed:
        pass


def _upgraded(server: BusServer) -> socket.socket:
    """A raw WebSocket."""
    line = socket.create_connection((server.host, server.port), timeout=10)
    line.sendall(
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%b"
        b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        % b"".join(f"{name}: {value}\r\n".encode() for name, value in from_new_address().items())
    )
    received = b""
    while b"\r\n\r\n" not in received:
        received += line.recv(1)
    return line


def _masked(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"", _masked(0x89, b"x" * 125)),  # Pings, each of which the server answers.
        (b"", _masked(0x8A)),
        (_masked(0x01, b'{"a"'), _masked(0x00)),  # A message of ever more parts without a byte.
    ],
    ids=["pings", "pongs", "empty parts"],
)
def test_frames_that_are_no_messages_cannot_flood_either(each_way: BusServer, begin: bytes, again: bytes) -> None:
    """They reach no limit of messages. Nobody reads here: what the server would answer stays in its memory."""
    before, reached = each_way.process.rss(), counted(each_way, "frames")
    blob = again * 1000
    sent = 0
    with _upgraded(each_way) as line:
        line.sendall(begin)
        line.settimeout(20)
        with contextlib.suppress(ConnectionError):
            while sent < 60 * 1024 * 1024:
                sent += line.send(blob)
    assert sent < 60 * 1024 * 1024
    assert counted(each_way, "frames") == reached + 1
    assert each_way.process.rss() - before < 10 * 1024 * 1024


async def test_close_codes_that_clients_make_up_are_one_series(wire: Connect, strict_server: BusServer) -> None:
    for code in (3333, 4999):
        client = await wire(strict_server, headers=from_new_address())
        await client.socket.close(code)

    def page() -> str:
        return strict_server.get("/metrics")[1].decode()

    wait_until(lambda: re.search(r'arqonbus_disconnects_total\{[^}]*code="other"[^}]*\} 2', page()), "both are counted")
    assert not re.search(r'code="(3333|4999)"', page())
