"""A listener of Server-Sent Events over a bare TCP connection, which comes back with `Last-Event-ID` as a browser does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.harness.server import BusServer


class EventListener:
    """Follows one path. `take` gets the name and the text of each event; true ends the listening."""

    def __init__(
        self,
        servers: Sequence[BusServer],
        path: str,
        take: Callable[[str, str], object],
        *,
        headers: Mapping[str, str] | None = None,
        pause: float = 0.1,
    ) -> None:
        self.servers = list(servers)
        self.path = path
        self.headers = dict(headers or {})
        self.last_id: str | None = None
        self.connections = 0
        self.statuses: list[int] = []
        self.answer_headers: dict[str, str] = {}
        self.pause = pause
        self._take = take
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Listen, and come back whenever the answer ends, until `take` says that it was all."""
        turn = 0
        while True:
            server = self.servers[turn % len(self.servers)]
            turn += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if await self._once(server):
                    return
            await asyncio.sleep(self.pause)

    def cut(self) -> None:
        """Break the line, as a network does."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _once(self, server: BusServer) -> bool:
        """One connection, to its end; whether `take` has said that it was all."""
        reader, self._writer = await asyncio.open_connection(server.host, server.port, limit=1 << 22)
        try:
            headers = {"Host": f"{server.host}:{server.port}", "Accept": "text/event-stream", **self.headers}
            if self.last_id is not None:
                headers["Last-Event-ID"] = self.last_id
            lines = [f"GET {self.path} HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
            self._writer.write("\r\n".join(lines).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status = int(head.split()[1])
            self.connections += 1
            self.statuses.append(status)
            self.answer_headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if status != 200:
                return False
            return await self._events(reader, "chunked" in self.answer_headers.get("transfer-encoding", ""))
        finally:
            self._writer.close()

    async def _events(self, reader: asyncio.StreamReader, chunked: bool) -> bool:
        buffer = b""
        while data := await (_chunk(reader) if chunked else reader.read(65536)):
            *blocks, buffer = (buffer + data).replace(b"\r\n", b"\n").split(b"\n\n")
            for block in blocks:
                if self._event(block.decode()):
                    return True
        return False

    def _event(self, block: str) -> bool:
        name, data = "message", []
        for line in block.split("\n"):
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "id":
                self.last_id = value
            elif key == "event":
                name = value
            elif key == "data":
                data.append(value)
        return bool(self._take(name, "\n".join(data))) if data else False


async def _chunk(reader: asyncio.StreamReader) -> bytes:
    size = int((await reader.readline()).partition(b";")[0] or b"0", 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]


def frames_into(take: Callable[[dict[str, Any]], None]) -> Callable[[str, str], bool]:
    """For `as=parts`: hand on the wire frames of a stream; its end is all."""

    def one(name: str, data: str) -> bool:
        if name not in ("snapshot", "append", "stream_end"):
            return False
        frame = json.loads(data)
        take(frame)
        return bool(frame["type"] == "stream_end")

    return one
