"""A page for each test, and clients that make something happen on the bus."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

import arqonbus
from tests.harness.server import BusServer

# Pictures are taken only when asked for (`make screenshots`).
collect_ignore = [] if os.environ.get("ARQONBUS_SCREENSHOTS") else ["test_screenshots.py"]


class Console:
    """A page of the console: what it says in the developer tools is kept and must be clean at the end."""

    def __init__(self, page: Page, server: BusServer) -> None:
        self.page = page
        self.server = server
        #: Errors that a test expects, such as those of a server that is away.
        self.allowed: list[str] = []
        self.faults: list[str] = []
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda problem: self.faults.append(str(problem)))

    async def open(self, path: str = "overview") -> Page:
        """Go to a view and wait until the page is connected."""
        await self.page.goto(f"{self.server.http_url}/#/{path}")
        await self.page.wait_for_selector("#connection.connected")
        return self.page

    async def go(self, path: str) -> None:
        """Another view of the open page."""
        await self.page.evaluate("path => { location.hash = `#/${path}` }", path)

    async def close(self) -> None:
        """Close the page, before its server ends: a page that asks a server which is gone complains."""
        await self.page.context.close()

    def unexpected(self) -> list[str]:
        """What went wrong and was not expected."""
        return [fault for fault in self.faults if not any(text in fault for text in self.allowed)]


class OpenConsole(Protocol):
    """Makes a page for a server; checked and closed at the end of the test."""

    async def __call__(self, server: BusServer, *, token: str | None = None, **context: Any) -> Console: ...


@pytest.fixture
def servers_first(request: pytest.FixtureRequest) -> None:
    """Make the test's way to servers before its pages and clients, whatever it names first: so the servers end after them."""
    if "start_server" in request.fixturenames:
        request.getfixturevalue("start_server")


@pytest_asyncio.fixture(loop_scope="session")
async def console(browser: Browser, servers_first: None) -> AsyncIterator[OpenConsole]:
    """Open pages; `context` are options of the browser's context, such as `viewport`."""
    made: list[Console] = []

    async def start(server: BusServer, *, token: str | None = None, **options: Any) -> Console:
        context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        if token is not None:
            await context.add_init_script(f"sessionStorage.setItem('arqonbus.token', {token!r})")
        opened = Console(await context.new_page(), server)
        made.append(opened)
        return opened

    yield start
    for opened in made:
        await opened.close()
    faults = [fault for opened in made for fault in opened.unexpected()]
    assert not faults, faults


class Connect(Protocol):
    """Connects a client of the bus; closed at the end of the test."""

    async def __call__(self, server: BusServer, **options: Any) -> arqonbus.Bus: ...


@pytest_asyncio.fixture(loop_scope="session")
async def client(servers_first: None) -> AsyncIterator[Connect]:
    """Connect clients."""
    async with AsyncExitStack() as stack:

        async def connect(server: BusServer, **options: Any) -> arqonbus.Bus:
            return await stack.enter_async_context(arqonbus.connect(server.url, **options))

        yield connect


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the test's own."""
    path = Path(tempfile.mkdtemp(prefix="arqonbus-console-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
