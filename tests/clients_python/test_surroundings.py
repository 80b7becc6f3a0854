"""What surrounds a client: an application's listeners and functions, proxies, forks, time zones."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

import arqonbus
from arqonbus import Backoff, State, sync
from arqonbus.messages import Message, moment_of
from tests.clients_python.conftest import Cli, Connect, client_environment
from tests.harness.server import BusServer
from tests.harness.waiting import free_port, wait_for

WAIT = 20.0

# What it says on the wire is the same with both back ends.
pytestmark = pytest.mark.embedded


def quick() -> Backoff:
    """Short pauses."""
    return Backoff(first=0.02, most=0.1)


async def broken(bus: arqonbus.Bus) -> None:
    """Cut the line, and wait until the client is back."""
    before = bus.connections
    assert bus._link is not None
    bus._link.abort()
    await wait_for(lambda: bus.connections != before and bus.connected, "the client is back", deadline=WAIT)


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.CONNECTED, State.RECONNECTING, State.CLOSED], ids=lambda state: state.value)
async def test_a_listener_that_throws_ends_nothing(
    client: Connect, fresh_room: str, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[State] = []

    def listener(new: State) -> None:
        told.append(new)
        if new is state:
            raise LookupError(f"a fault of the application at {new.value}")

    async with asyncio.timeout(WAIT):
        bus, other = await client(backoff=quick(), on_state=listener), await client()
    async with bus.subscribe(f"{fresh_room}:talk") as messages:
        await broken(bus)
        await other.publish(f"{fresh_room}:talk", "still here")
        assert (await messages.get(WAIT)).text == "still here"
    await bus.close()
    assert told == [State.CONNECTED, State.RECONNECTING, State.CONNECTED, State.CLOSED]
    assert f"a fault of the application at {state.value}" in caplog.text


def test_a_listener_that_waits_for_its_own_blocking_bus_is_told_so(shared_server: BusServer) -> None:
    problems: list[str] = []
    made: list[sync.Bus] = []
    done = threading.Event()

    def listener(state: State) -> None:
        if state is State.RECONNECTING:
            try:
                made[0].ping()
            except RuntimeError as problem:
                problems.append(str(problem))
            done.set()

    with sync.connect(shared_server.url, on_state=listener, backoff=quick()) as bus:
        made.append(bus)
        link = bus._inner._link
        assert link is not None
        bus._loop._loop.call_soon_threadsafe(link.abort)
        assert done.wait(WAIT)
        assert "must not call the bus" in problems[0]
        assert bus.ping()["pong"]


# --- functions for the token ------------------------------------------------------------------------------------------


def never_async(calls: list[int]) -> Callable[[], Any]:
    """An `async` function that hangs the first time."""

    async def token() -> str | None:
        calls.append(len(calls))
        if len(calls) == 1:
            await asyncio.Event().wait()
        return None

    return token


def never_blocking(calls: list[int]) -> Callable[[], Any]:
    """A plain function that hangs the first time."""

    def token() -> str | None:
        calls.append(len(calls))
        if len(calls) == 1:
            threading.Event().wait()
        return None

    return token


@pytest.mark.parametrize("make", [never_async, never_blocking], ids=["async", "blocking"])
async def test_a_token_function_that_never_returns_is_given_up_and_asked_again(
    shared_server: BusServer, make: Callable[[list[int]], Callable[[], Any]]
) -> None:
    calls: list[int] = []
    token = make(calls)
    with pytest.raises(arqonbus.ConnectionFailed, match=r"token did not return within 0\.1 s"):
        await arqonbus.connect(shared_server.url, token=token, open_timeout=0.1)
    async with arqonbus.connect(shared_server.url, token=token) as bus:
        assert (await bus.ping())["pong"]
    assert calls == [0, 1]


async def test_a_hanging_token_function_does_not_keep_a_client_away_for_ever(shared_server: BusServer) -> None:
    calls: list[int] = []

    async def token() -> str | None:
        calls.append(len(calls))
        if len(calls) == 2:
            await asyncio.Event().wait()
        return None

    # Long enough for a busy machine's handshake, which has the same limit.
    async with arqonbus.connect(shared_server.url, token=token, open_timeout=10.0, backoff=quick()) as bus:
        await broken(bus)
    assert calls == [0, 1, 2]


async def test_a_blocking_token_function_holds_up_nobody(shared_server: BusServer) -> None:
    asked, answered = threading.Event(), threading.Event()

    def token() -> None:
        asked.set()
        assert answered.wait(WAIT)

    opening = asyncio.ensure_future(arqonbus.connect(shared_server.url, token=token).__aenter__())
    await wait_for(asked.is_set, "the function is called", deadline=WAIT)
    answered.set()  # The loop comes to this line only if the function does not hold it.
    await (await asyncio.wait_for(opening, WAIT)).close()


def test_the_process_ends_though_a_token_function_hangs(shared_server: BusServer) -> None:
    program = (
        "import arqonbus.sync, threading\n"
        "arqonbus.sync.connect(token=lambda: threading.Event().wait(), open_timeout=0.1, "
        f"url={shared_server.url!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=client_environment(None), capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "did not return within 0.1 s" in done.stderr


# --- proxies ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def http_proxy(status: str = "200 OK") -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that takes CONNECT and passes everything on: its URL, and what was asked of it."""
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(request.partition("\r\n")[0])
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        if not status.startswith("200"):
            writer.close()
            return
        host, _, port = request.split()[1].rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        for pair in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.ensure_future(pass_on(*pair))
            tasks.add(task)

    server = await asyncio.start_server(accept, "127.0.0.1")
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def test_this_machine_is_never_reached_through_the_environments_proxy(
    shared_server: BusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for host in (shared_server.host, "localhost", "127.0.0.1"):
        async with arqonbus.connect(f"ws://{host}:{shared_server.port}/") as bus:
            assert (await bus.ping())["pong"]
    with pytest.raises(arqonbus.ConnectionFailed) as failed:
        await arqonbus.connect("ws://bus.invalid/")
    assert "through the proxy http://127.0.0.1:1" in str(failed.value)
    assert failed.value.proxy
    with pytest.raises(arqonbus.ConnectionFailed) as direct:
        await arqonbus.connect("ws://bus.invalid/", proxy=None)
    assert "proxy" not in str(direct.value)


async def test_a_proxy_that_is_named_is_used(shared_server: BusServer) -> None:
    async with http_proxy() as (url, asked), arqonbus.connect(shared_server.url, proxy=url) as bus:
        assert (await bus.ping())["pong"]
        assert asked == [f"CONNECT {shared_server.host}:{shared_server.port} HTTP/1.1"]


async def test_a_proxy_that_does_not_let_through_is_named_without_its_password(shared_server: BusServer) -> None:
    async with http_proxy("407 Proxy Authentication Required") as (url, _):
        with pytest.raises(arqonbus.ConnectionFailed, match=f"through the proxy {url}: it answered HTTP 407") as failed:
            await arqonbus.connect(shared_server.url, proxy=url.replace("//", "//user:secret@"))
        assert "secret" not in str(failed.value)
    with pytest.raises(arqonbus.ConnectionFailed, match="gopher://there is not the URL of a proxy"):
        await arqonbus.connect(shared_server.url, proxy="gopher://me:secret@there")
    with pytest.raises(arqonbus.ConnectionFailed, match=r"through the proxy socks5://127\.0\.0\.1:1"):
        await arqonbus.connect(shared_server.url, proxy="socks5://127.0.0.1:1")


def test_the_command_line_blames_the_proxy_and_not_the_server(cli: Cli) -> None:
    done = cli("status", "--url", "ws://bus.invalid/", http_proxy=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 3
    assert "Do you want the proxy?" in done.stderr
    assert "make run" not in done.stderr


# --- forks ------------------------------------------------------------------------------------------------------------


def test_a_blocking_bus_that_was_made_before_a_fork_says_so_in_the_child(shared_server: BusServer) -> None:
    program = f"""
import os, sys
from arqonbus import sync

bus = sync.connect({shared_server.url!r})
messages = bus.subscribe("fork:talk", echo=True).open()
child = os.fork()
if not child:
    for use in (bus.ping, lambda: next(messages), lambda: bus.publish("fork:talk", "x"), lambda: messages.get(1)):
        try:
            use()
        except RuntimeError as problem:
            print(problem)
    messages.close() if False else bus.close()
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
bus.publish("fork:talk", "the parent goes on")
print(messages.get(10).text)
bus.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=client_environment(None), capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "the parent goes on"
    assert len(lines) == 5
    assert all("before a fork" in line and "Connect in each process" in line for line in lines[:4])


@pytest.mark.pure
async def test_an_asyncio_bus_says_so_too() -> None:
    bus = arqonbus.connect()._make()
    bus._process = os.getpid() + 1
    for use in (bus.ping(), bus.publish("a:b", "c"), bus.subscribe("a:b").get(1), bus.join("a:b")):
        with pytest.raises(RuntimeError, match="before a fork"):
            await use


# --- time zones -------------------------------------------------------------------------------------------------------


@pytest.mark.pure
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "UTC"])
def test_a_time_without_a_zone_is_utc_wherever_one_is(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        wanted = "2026-01-01T12:00:00.000Z"
        assert moment_of("2026-01-01T12:00:00") == wanted
        assert moment_of("2026-01-01 12:00") == wanted
        assert moment_of(datetime(2026, 1, 1, 12)) == wanted  # noqa: DTZ001 - that is what it is about
        assert Message.of({"timestamp": "2026-01-01T12:00:00"}).timestamp == datetime(2026, 1, 1, 12, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
