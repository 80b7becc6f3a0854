"""The sockets that a process listens on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from bus.servers.listeners import listen

pytestmark = pytest.mark.pure


async def test_no_frame_waits_for_the_one_before_it_to_be_acknowledged() -> None:
    """Nagle's algorithm is off on what is accepted: with it a small frame behind another one waits up to 40 ms."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    (listening,) = listen("127.0.0.1", 0)
    server = await asyncio.start_server(lambda _, writer: accepted.put_nowait(writer), sock=listening)
    async with server:
        _, client = await asyncio.open_connection(*listening.getsockname())
        writer = await asyncio.wait_for(accepted.get(), 10)
        assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        for end in (client, writer):
            end.close()
