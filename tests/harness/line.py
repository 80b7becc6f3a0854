"""A line between a client and a server that holds everything back for a while, and breaks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: The longest that one piece is held back, in seconds.
LONGEST = 0.02


class Line:
    """A TCP proxy. What each side says arrives later and in order; `seed` chooses how much later."""

    def __init__(self, host: str, port: int, seed: int) -> None:
        self._target = host, port
        self._random = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where the client finds the bus."""
        return f"ws://127.0.0.1:{self.port}/"

    def cut(self) -> None:
        """Break every connection, as a network does: what is on the way is lost."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, there_writer}
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.ensure_future(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await asyncio.sleep(LONGEST * self._random.random())
                target.write(data)
        except OSError:
            pass
        target.close()
        self._writers.discard(target)


@asynccontextmanager
async def delayed_line(host: str, port: int, seed: int) -> AsyncIterator[Line]:
    """A line to a server, gone at the end of the block."""
    line = Line(host, port, seed)
    server = await asyncio.start_server(line._accept, "127.0.0.1")
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        line.cut()
        for task in list(line._tasks):
            task.cancel()
