"""The direct writer and the portable one under uvicorn: the same frames in order, within bounds, and not for ever."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from bus.realtime.frame import Batch, masked_frame
from bus.realtime.writer import Bounds, Writer
from bus.servers.portable import PortableWriter
from bus.servers.registry import choose_writer
from bus.servers.uvicorn.writer import UvicornWriter, fault
from tests.harness.waiting import free_port, wait_for
from tests.servers.payloads import PAYLOADS

pytestmark = pytest.mark.pure


class Application:
    """An ASGI application that gives each connection's writer to the test."""

    def __init__(self) -> None:
        self.writers: asyncio.Queue[tuple[Writer, Any]] = asyncio.Queue()
        self.bounds = Bounds()
        self.portable = False
        self.overflows = 0
        self.codes: asyncio.Queue[int] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        writer = choose_writer(send, self.bounds, self._overflow, portable=self.portable)
        self.writers.put_nowait((writer, send))
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                writer.end()
                self.codes.put_nowait(event.get("code") or 1005)
                return

    def _overflow(self) -> None:
        self.overflows += 1


@pytest.fixture
async def uvicorn_server() -> AsyncIterator[tuple[Application, str]]:
    """uvicorn in this loop, as its command line sets it up."""
    import uvicorn

    application, port = Application(), free_port()
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, lifespan="off", log_level="error"))
    running = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started, "uvicorn is up")
    yield application, f"ws://127.0.0.1:{port}/"
    server.should_exit = True
    await asyncio.wait_for(running, 20)


async def connect(server: tuple[Application, str], *, compression: Any = None) -> tuple[ClientConnection, Writer, Any]:
    """A client, its connection's writer, and the server's own ``send``."""
    application, url = server
    client = await websockets.connect(url, compression=compression, max_size=None, ping_interval=None, close_timeout=1)
    writer, send = await asyncio.wait_for(application.writers.get(), 10)
    return client, writer, send


@pytest.mark.parametrize("way", ["direct", "portable", "compressed"])
async def test_uvicorn_gives_the_same_frames_in_the_same_order_each_way(
    uvicorn_server: tuple[Application, str], way: str
) -> None:
    uvicorn_server[0].portable = way == "portable"
    client, writer, _ = await connect(uvicorn_server, compression="deflate" if way == "compressed" else None)
    assert isinstance(writer, UvicornWriter if way == "direct" else PortableWriter)
    expected = []
    for payload in PAYLOADS:
        writer.send(b"answer")
        writer.write(Batch([payload, b"joined"]))
        expected += [b"answer", payload, b"joined"]
        if way == "direct":
            await client.ping()
    writer.send(b"last")
    writer.close(4012)
    writer.write(Batch([b"behind the close frame"]))
    got = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            got.append(str(await client.recv()).encode())
    assert got == [*expected, b"last"]
    assert client.close_code == 4012
    assert uvicorn_server[0].overflows == 0


async def test_an_empty_text_is_a_frame_under_uvicorn(uvicorn_server: tuple[Application, str]) -> None:
    client, writer, _ = await connect(uvicorn_server)
    writer.send(b"")
    writer.flush()
    assert await asyncio.wait_for(client.recv(), 10) == ""
    await client.close()


@pytest.mark.parametrize("portable", [False, True], ids=["direct", "portable"])
async def test_under_uvicorn_what_waits_is_bounded_and_a_stuck_peer_is_cut_off(
    uvicorn_server: tuple[Application, str], portable: bool
) -> None:
    application = uvicorn_server[0]
    application.portable = portable
    application.bounds = Bounds(bytes=500_000, deadline=0.3)
    client, writer, _ = await connect(uvicorn_server)
    client.transport.pause_reading()
    for _ in range(200):
        writer.write(Batch([secrets.token_hex(25_000).encode()]))
        await asyncio.sleep(0)
    assert application.overflows == 1
    assert writer.buffered() <= 500_000 + 60_000
    writer.close(4013)
    if portable:
        # ASGI cannot cut the line; nothing more is kept for it.
        await wait_for(lambda: not writer.buffered(), "nothing is kept")
    else:
        await asyncio.wait_for(application.codes.get(), 10)
    client.transport.abort()


@pytest.mark.parametrize("portable", [False, True], ids=["direct", "portable"])
async def test_under_uvicorn_a_peer_that_takes_nothing_is_given_up_after_the_deadline(
    uvicorn_server: tuple[Application, str], portable: bool
) -> None:
    application = uvicorn_server[0]
    application.portable = portable
    application.bounds = Bounds(bytes=1 << 30, frames=100_000, deadline=0.3)
    client, writer, _ = await connect(uvicorn_server)
    client.transport.pause_reading()
    for _ in range(100):
        writer.write(Batch([b"x" * 100_000]))
    await wait_for(lambda: application.overflows, "the deadline was noticed")
    assert application.overflows == 1
    writer.abort()
    client.transport.abort()


async def test_under_uvicorn_a_client_that_closes_and_does_not_read_is_cut(
    uvicorn_server: tuple[Application, str],
) -> None:
    application = uvicorn_server[0]
    application.bounds = Bounds(bytes=1 << 30, frames=100_000, deadline=0.3)
    client, writer, _ = await connect(uvicorn_server)
    client.transport.pause_reading()
    for _ in range(100):
        writer.write(Batch([b"x" * 100_000]))
    client.transport.write(masked_frame(b"\x03\xe8", b"mask", first=0x88))
    assert await asyncio.wait_for(application.codes.get(), 10) == 1000
    assert writer.buffered()
    await wait_for(lambda: not writer.buffered(), "nothing is kept")
    client.transport.abort()


def test_the_installed_version_passes_the_self_test() -> None:
    assert fault() is None
