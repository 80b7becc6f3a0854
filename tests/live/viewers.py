"""Many viewers of a live page without a browser: each loads the page, and keeps its rows up to date as htmx does."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from types import TracebackType

from tests.harness.waiting import wait_for
from tests.live.conftest import LiveServer

_ROW = re.compile(
    r'<tr(?: hx-swap-oob="true")? id="row-(\d+)"( hx-swap-oob="(delete)")?>(?:<td>(.*?)</td>)?</tr>', re.DOTALL
)
_URL = re.compile(r'data-bus-live="([^"]+)"')


class Viewer:
    """One viewer. `rows` is what it sees, `seen` how many fragments came, and `orders` the names of other events."""

    def __init__(self, server: LiveServer, path: str = "/rows/", headers: str = "") -> None:
        self._server = server
        self._path = path
        self._headers = headers
        self.rows: dict[str, str] = {}
        self.url = ""
        self.status = 0
        self.seen: list[str] = []
        self.orders: list[str] = []
        self.position = ""
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Viewer:
        await self.load()
        await self.follow()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def load(self) -> None:
        """Load the page."""
        reader, writer = await self._ask(self._path)
        text = (await reader.read()).decode()
        await _close(writer)
        assert text.startswith("HTTP/1.1 200"), text
        self._show(text)
        found = _URL.search(text)
        assert found, text
        self.url = html.unescape(found[1])

    async def follow(self, position: str = "") -> None:
        """Open the stream, and return once it answers; from ``position`` on where it is given (``Last-Event-ID``)."""
        extra = f"Last-Event-ID: {position}\r\n" if position else ""
        reader, writer = await self._ask(self.url, f"Accept: text/event-stream\r\n{extra}")
        self.status = int((await reader.readline()).split()[1])
        await reader.readuntil(b"\r\n\r\n")
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader))

    async def leave(self) -> None:
        """Close the stream."""
        if self._reading is not None and self._writer is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            await _close(self._writer)

    async def _ask(self, path: str, headers: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{self._headers}{headers}\r\n".encode()
        )
        return reader, writer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        name, data = "", list[str]()
        async for line in reader:
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field == "event":
                name = value
            elif field == "id":
                self.position = value
            elif field == "data":
                data.append(value)
            elif not field and (name or data):
                self._take(name, "\n".join(data))
                name, data = "", []

    def _take(self, name: str, text: str) -> None:
        if name:
            self.orders.append(f"{name} {text}")
            return
        self.seen.append(text)
        self._show(text)

    def _show(self, text: str) -> None:
        for key, _, order, shown in _ROW.findall(text):
            if order == "delete":
                self.rows.pop(key, None)
            else:
                self.rows[key] = html.unescape(shown)

    async def hears(self, text: str) -> None:
        """Wait for a fragment with this text."""
        await wait_for(lambda: any(text in each for each in self.seen), f"a viewer hears {text}", deadline=60)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def come(server: LiveServer, count: int, path: str = "/rows/", at_once: int = 50) -> list[Viewer]:
    """Let viewers come, and return when the streams of all are open. They load the page once together, and then follow."""
    first = Viewer(server, path)
    await first.load()
    viewers = [first]
    for _ in range(count - 1):
        other = Viewer(server, path)
        other.url, other.rows = first.url, dict(first.rows)
        viewers.append(other)
    for start in range(0, count, at_once):
        await asyncio.gather(*(viewer.follow() for viewer in viewers[start : start + at_once]))
    return viewers
