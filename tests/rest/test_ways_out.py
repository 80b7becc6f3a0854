"""Whatever a request of events takes is given back on every way out of it: before the first byte, in the middle, at the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import StartServer
from tests.harness.server import BusServer, ServerKind
from tests.harness.waiting import wait_for
from tests.rest.test_events import following, streams

#: Places of the server, and requests of each way out: more than enough to fill it, were one of ten kept.
PLACES, TIMES = 10, 120

HOST = {"DJANGO_SETTINGS_MODULE": "tests.rest.host_settings"}
SILENT = struct.pack("ii", 1, 0)


def request_of(room: str) -> bytes:
    return f"GET /api/v1/channels/{room}:a/events?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def connected(server: BusServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(server.host, server.port)


async def hang_up(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, SILENT)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def at_once(server: BusServer, room: str) -> None:
    """Gone before anything is answered."""
    _, writer = await connected(server)
    writer.write(request_of(room))
    await writer.drain()
    await hang_up(writer, reset=False)


async def reset_at_once(server: BusServer, room: str) -> None:
    """The same with a reset, as of a process that dies."""
    _, writer = await connected(server)
    writer.write(request_of(room))
    await writer.drain()
    await hang_up(writer, reset=True)


async def at_the_head(server: BusServer, room: str) -> None:
    """Gone with the first byte of the answer."""
    reader, writer = await connected(server)
    writer.write(request_of(room))
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(20):
            await reader.readexactly(1)
    await hang_up(writer, reset=True)


async def in_the_middle(server: BusServer, room: str) -> None:
    """Gone when the first event has come."""
    reader, writer = await connected(server)
    writer.write(request_of(room))
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(20):
            await reader.readuntil(b"event: ")
    await hang_up(writer, reset=False)


WAYS: list[Callable[[BusServer, str], Awaitable[None]]] = [at_once, reset_at_once, at_the_head, in_the_middle]


@pytest.mark.embedded
@pytest.mark.parametrize("host", [{}, HOST], ids=["plain", "synchronous"])
@pytest.mark.parametrize("kind", ["daphne", "uvicorn"])
async def test_event_streams_that_hang_up_keep_no_place(
    start_server: StartServer, kind: ServerKind, host: dict[str, str], fresh_room: str
) -> None:
    server = await asyncio.to_thread(
        start_server, kind, env={**host, "ARQONBUS_CONNECTIONS": str(PLACES), "ARQONBUS_CONNECTIONS_PER_PRINCIPAL": "0"}
    )
    for number in range(3):
        assert (
            await asyncio.to_thread(
                server.request, "POST", f"/api/v1/channels/{fresh_room}:a/messages", {"message": f"m{number}"}
            )
        )[0] == 201
    for way in WAYS:
        for start in range(0, TIMES, PLACES):
            await asyncio.gather(*(way(server, fresh_room) for _ in range(start, start + PLACES)))
        await wait_for(
            lambda: asyncio.to_thread(lambda: streams(server) == 0), f"every place is given back: {way.__name__}"
        )
    # All places are there for others, and at the end of each the same.
    async with contextlib.AsyncExitStack() as stack:
        held = []
        for _ in range(PLACES):
            reader = await stack.enter_async_context(following(server, f"{fresh_room}:a", since=0))
            held.append(reader)
            assert (await reader.next()).name == "subscribed"
            assert [event.data["message"] for event in await reader.messages(3)] == ["m0", "m1", "m2"]
        assert await asyncio.to_thread(streams, server) == PLACES
    await wait_for(lambda: asyncio.to_thread(lambda: streams(server) == 0), "the streams are gone")
    assert "Traceback" not in server.log()
