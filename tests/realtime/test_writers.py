"""Writers on real sockets: the bytes and the order of the ordinary way, bounded, and not for ever."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import daphne.server  # noqa: F401 - installs Twisted's asyncio reactor before anything imports another
import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from bus.realtime.frame import Batch, masked_frame, text_frame
from bus.realtime.writer import Bounds, Writer
from bus.servers.daphne.writer import DaphneWriter, opened_protocol
from bus.servers.portable import PortableWriter
from bus.servers.uvicorn.writer import UvicornWriter
from bus.servers.writers import choose
from tests.harness.waiting import free_port, wait_for

pytestmark = pytest.mark.pure

PAYLOADS = [
    b"{}",
    b'{"a":"\xc3\xa4\xf0\x9f\x8e\x88"}',
    b"x" * 125,
    b"y" * 126,
    b"z" * 65_535,
    b"w" * 65_536,
    b"v" * 300_000,
]


# --- daphne's transport, driven by hand -----------------------------------------------------------------------------------


def received(transport: Any, theirs: socket.socket) -> bytes:
    """Everything that the transport has, as the peer gets it."""
    got = bytearray()
    while True:
        waits = bool(transport.dataBuffer or transport._tempDataBuffer)
        if waits:
            transport.doWrite()
        try:
            got += theirs.recv(1 << 16)
        except BlockingIOError:
            if not waits:
                return bytes(got)


@pytest.fixture
def pair() -> Any:
    """Daphne's protocol after its handshake, and the other end of its socket; small buffers, so that writes are partial."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        theirs.setblocking(False)
        protocol = opened_protocol(ours)
        assert received(protocol.transport, theirs).startswith(b"HTTP/1.1 101")
        yield protocol, theirs


async def test_direct_writes_keep_their_order_among_pings_answers_and_the_close(pair: Any) -> None:
    protocol, theirs = pair
    overflows: list[int] = []
    writer = DaphneWriter(protocol, Bounds(), lambda: overflows.append(1))
    expected = b""
    for number, payload in enumerate(PAYLOADS):
        writer.write(Batch([payload]))
        expected += text_frame(payload)
        protocol.sendPing(b"%d" % number)
        expected += b"\x89\x01%d" % number
        writer.send(b"answer")
        writer.send(b"answer 2")
        writer.flush()
        expected += text_frame(b"answer") + text_frame(b"answer 2")
    assert writer.buffered() > 100_000, "the socket took all at once, so nothing was tried"
    writer.send(b"last")
    writer.close(4012)
    writer.write(Batch([b"behind the close frame"]))
    expected += text_frame(b"last") + b"\x88\x02" + (4012).to_bytes(2, "big")
    assert received(protocol.transport, theirs) == expected
    assert not overflows
    protocol.closeHandshakeTimeoutCall.cancel()


async def test_nothing_is_written_behind_a_close_frame_whoever_began_to_close(pair: Any) -> None:
    protocol, theirs = pair
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"before"]))
    protocol.dataReceived(masked_frame(b"\x03\xe8", b"mask", first=0x88))  # The peer's; Autobahn answers it.
    writer.write(Batch([b"behind"]))
    writer.send(b"behind")
    writer.flush()
    assert received(protocol.transport, theirs) == text_frame(b"before") + b"\x88\x02\x03\xe8"


async def test_the_end_leaves_the_servers_objects_as_they_were(pair: Any) -> None:
    protocol, theirs = pair
    before = set(vars(protocol)), set(vars(protocol.transport))
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"before"]))
    writer.end()
    writer.write(Batch([b"behind"]))
    assert (set(vars(protocol)), set(vars(protocol.transport))) == before
    assert received(protocol.transport, theirs) == text_frame(b"before")


async def test_writes_go_around_an_empty_buffer_and_through_a_full_one(pair: Any) -> None:
    protocol, theirs = pair
    writer = DaphneWriter(protocol, Bounds(), lambda: None)
    writer.write(Batch([b"small"]))
    assert theirs.recv(100) == text_frame(b"small"), "it is there without a turn of the loop"
    writer.write(Batch([b"x" * 200_000]))
    first = theirs.recv(100)
    assert writer.buffered() > 0
    writer.write(Batch([b"behind"]))
    assert first + received(protocol.transport, theirs) == text_frame(b"x" * 200_000) + text_frame(b"behind")
    assert (writer.buffered(), writer.taken() > 0) == (0, True)
    writer._watch.cancel()  # type: ignore[union-attr]


@pytest.mark.parametrize("bounds", [Bounds(bytes=500_000), Bounds(frames=50)], ids=["bytes", "frames"])
async def test_what_waits_is_bounded_and_the_owner_is_told_once(pair: Any, bounds: Bounds) -> None:
    protocol, _ = pair
    overflows: list[int] = []
    writer = DaphneWriter(protocol, bounds, lambda: overflows.append(1))
    size = 10_000
    for _ in range(3000):
        writer.write(Batch([b"x" * size]))
    assert overflows == [1]
    assert writer.buffered() <= bounds.bytes + size + 10
    writer.abort()


@pytest.fixture
async def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
    """Puts the running loop's clock forward by so many seconds, and lets what is due by then happen."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: real() + ahead)

    async def forward(seconds: float) -> None:
        nonlocal ahead
        ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    return forward


async def test_a_peer_that_takes_nothing_for_the_deadline_is_given_up_and_one_that_takes_a_little_is_not(
    pair: Any, pass_time: Callable[[float], Awaitable[None]]
) -> None:
    protocol, theirs = pair
    told = asyncio.Event()
    deadline = 100.0
    writer = DaphneWriter(protocol, Bounds(bytes=10_000_000, deadline=deadline), told.set)
    writer.write(Batch([b"x" * 5_000_000]))
    for _ in range(6):
        before = writer.taken()
        theirs.recv(200_000)
        protocol.transport.doWrite()
        assert writer.taken() > before, "it took some of it"
        await pass_time(deadline / 2)
        assert not told.is_set()
    assert writer.buffered() > 0
    assert writer.linger == deadline
    await pass_time(deadline)
    assert told.is_set(), "it took nothing for all of the deadline"
    assert writer.linger == 1.0, "it does not get as long again for its close frame"
    writer.abort()


# --- the three writers under real servers ---------------------------------------------------------------------------------


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
        writer = choose(send, self.bounds, self._overflow, portable=self.portable)
        self.writers.put_nowait((writer, send))
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                writer.closed = True
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
